"""From runs to tables, differences with intervals, and the summary that says them."""

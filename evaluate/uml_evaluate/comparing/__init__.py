"""From runs to tables, differences with intervals, and the sentence that says them."""

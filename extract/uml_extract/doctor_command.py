"""`uml doctor`: parse, call `uml_extract.doctor.check`, print."""

from __future__ import annotations

import click

from uml_cache import Output, uml_command

_EXAMPLE = """
uml doctor
uml doctor --no-timing
"""


@uml_command("doctor", example=_EXAMPLE, short_help="Look at this machine: devices, weights, speed.")
@click.option("--timing/--no-timing", default=True, show_default=True,
              help="Load every encoder whose weights are here, and time it for a second.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="Where encoders are timed.")
def doctor(output: Output, timing: bool, device: str) -> None:
    """Say what this machine has: devices, versions, disk, network, which encoders have their weights here,
    and how long each takes for a sample.
    """
    from uml_extract.doctor import check

    found = check(timing=timing, device=device, output=output)
    output.result(found.to_json(), found.text())

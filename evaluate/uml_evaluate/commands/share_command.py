"""`uml push` and `uml pull`: parse, call `uml_evaluate.sharing.handing`, print."""

from __future__ import annotations

from pathlib import Path

import click

from uml_cache import Output, uml_command

_PLACE = click.Path()  # a folder, or a URL


@uml_command(
    "push",
    example="""
uml push ./feats/birds/image/dinov2_vits14.zarr hf://datasets/lab/birds-features --licence cc-by-4.0
uml push ./runs/birds-image-1234abcd s3://bucket/birds-run
uml push ./runs/birds-image-1234abcd hf://lab/birds --head --licence mit
""",
    short_help="Hand a store, a run or a head on, with a card.",
)
@click.argument("what", type=_PLACE)
@click.argument("place", type=_PLACE)
@click.option("--head", is_flag=True, help="Of the run WHAT, push the head alone that `uml predict` takes.")
@click.option("--licence", metavar="NAME", help="Its licence, for the card, such as cc-by-4.0.")
@click.option("--cache", type=click.Path(path_type=Path),
              help="With --head: folder with the run's feature stores, if they have moved.")  # fmt: skip
def push(output: Output, what: str, place: str, head: bool, licence: str | None, cache: Path | None) -> None:
    """Hand WHAT on: copy a store, a run or the file of a head to PLACE, with a card and checksums.

    PLACE is a new folder, a URL of object storage, or a repository of the Hugging Face hub: hf://ORG/NAME for
    a head, hf://datasets/ORG/NAME for a store or a run. A repository that does not exist is made, private.

    The digest that is printed stands for exactly this content: `uml pull --digest` takes nothing else.
    """
    from uml_evaluate.sharing.handing import push as hand_on

    with output.progress(None, "file", "push") as bar:
        shared = hand_on(
            what, place, head=head, licence=licence, cache=cache, progress=bar.update, output=output
        )
    said = "is pushed to" if shared.new else "lies already at"
    size = f"{shared.files} files, {shared.bytes / 1e6:.2f} MB"
    output.result(shared.as_json(), f"{what} {said} {place}: {size}; digest {shared.digest}")


@uml_command(
    "pull",
    example="""
uml pull hf://datasets/lab/birds-features --out ./feats
uml pull s3://bucket/birds-run
uml pull hf://lab/birds
""",
    short_help="Take a store, a run or a head that was pushed.",
)
@click.argument("place", type=_PLACE)
@click.option("--out", type=_PLACE, metavar="FOLDER",
              help="Where it goes.  [default: feats, runs or heads, by what it is]")  # fmt: skip
@click.option("--digest", metavar="SHA256", help="What `uml push` printed; anything else is refused.")
def pull(output: Output, place: str, out: str | None, digest: str | None) -> None:
    """Take the store, the run or the head that was pushed to PLACE.

    Every file is compared with its checksum. It appears when all of it is here and sound; what was tampered
    with is refused, and nothing of it stays. No code is taken: other files than arrays, tensors and records
    are refused.
    """
    from uml_evaluate.sharing.handing import pull as take

    with output.progress(None, "file", "pull") as bar:
        shared = take(place, out, digest=digest, progress=bar.update)
    said = "is here" if shared.new else "was here already"
    size = f"{shared.files} files, {shared.bytes / 1e6:.2f} MB"
    output.result(shared.as_json(), f"{shared.kind} {shared.place} {said}: {size}; digest {shared.digest}")

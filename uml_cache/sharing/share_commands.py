"""`uml cache push` and `uml cache pull`: a feature store is handed on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from uml_cache.command import Output, uml_command

if TYPE_CHECKING:
    from uml_cache.sharing.share_list import Shared

_PLACE = click.Path()  # a folder, or a URL such as s3://bucket/feats


@uml_command(
    "push",
    example="uml cache push ./feats/shapes/image/hog-color.zarr s3://bucket/shapes --licence cc-by-4.0",
)
@click.argument("store", type=_PLACE)
@click.argument("place", type=_PLACE)
@click.option("--licence", metavar="NAME", help="Licence of the features, for the card, such as cc-by-4.0.")
def push(output: Output, store: str, place: str, licence: str | None) -> None:
    """Hand the store at STORE on: copy it to PLACE, a new folder or a URL, with a card and checksums.

    The store is verified first. The digest that is printed stands for exactly this content: `uml cache pull
    --digest` takes nothing else.
    """
    from uml_cache.sharing.stores import push_store

    with output.progress(None, "file", "push") as bar:
        shared = push_store(store, place, licence=licence, progress=bar.update)
    what = "is pushed to" if shared.new else "lies already at"
    text = f"{store} {what} {place}: {_size(shared)}; digest {shared.digest}"
    output.result(shared.as_json(), text)


@uml_command("pull", example="uml cache pull s3://bucket/shapes --out ./feats")
@click.argument("place", type=_PLACE)
@click.option("--out", type=_PLACE, default="feats", show_default=True, help="Cache folder.")
@click.option("--digest", metavar="SHA256", help="What `uml cache push` printed; anything else is refused.")
def pull(output: Output, place: str, out: str, digest: str | None) -> None:
    """Take the store that was pushed to PLACE into a cache folder.

    Every file is compared with its checksum. The store appears when all of it is here and sound; a store
    that was tampered with is refused, and nothing of it stays.
    """
    from uml_cache.sharing.stores import pull_store

    with output.progress(None, "file", "pull") as bar:
        shared = pull_store(place, out, digest=digest, progress=bar.update)
    what = "is here" if shared.new else "was here already"
    output.result(shared.as_json(), f"{shared.place} {what}: {_size(shared)}; digest {shared.digest}")


def _size(shared: Shared) -> str:
    return f"{shared.files} files, {shared.bytes / 1e6:.2f} MB"

"""How are edits carried out on a copy of a file, so that all else in it stays bit for bit?"""

from __future__ import annotations

import copy
import shutil
import zipfile
from pathlib import Path

from bnfix.files.archive import Archive
from bnfix.files.container import CONFIG, WEIGHTS, Format
from bnfix.files.edit import Edits
from bnfix.files.hdf5 import Hdf5


def rewrite(source: Path, form: Format, edits: Edits, draft: Path) -> None:
    """Write to `draft` what `source` holds, with `edits`."""
    if form is Format.H5 or not edits:
        shutil.copyfile(source, draft)
        if edits:
            _edit_hdf5(draft, edits, attribute="model_config")
        return
    with Archive(source) as archive, zipfile.ZipFile(draft, "w", allowZip64=True) as target:
        for name in archive.names:
            member = copy.copy(archive.members[name])
            if name == CONFIG and edits.config is not None:
                target.writestr(member, edits.config.encode("utf-8"))
            elif name == WEIGHTS and edits.values:
                _copy_edited(archive, member, edits, target, draft.parent / "weights")
            else:
                with target.open(member, "w", force_zip64=_is_large(member)) as stream:
                    for piece in archive.pieces(name):
                        stream.write(piece)


def _copy_edited(
    archive: Archive, member: zipfile.ZipInfo, edits: Edits, target: zipfile.ZipFile, aside: Path
) -> None:
    with aside.open("wb") as file:
        for piece in archive.pieces(member.filename):
            file.write(piece)
    _edit_hdf5(aside, edits, attribute=None)
    with aside.open("rb") as file, target.open(member, "w", force_zip64=_is_large(member)) as to:
        shutil.copyfileobj(file, to)
    aside.unlink()


def _is_large(member: zipfile.ZipInfo) -> bool:
    return member.file_size > 1 << 30


def _edit_hdf5(path: Path, edits: Edits, attribute: str | None) -> None:
    with Hdf5(path, path.name, path.stat().st_size, mode="r+") as hdf5:
        if attribute and edits.config is not None:
            hdf5.write_attribute("/", attribute, edits.config)
        for place, values in edits.values.items():
            hdf5.write(place, values)

"""Files of published weights: where they are, under which licence, and how they get here checked."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from atrous.core.download import DOWNLOAD_ERRORS, download
from atrous.core.errors import MachineError, ModelFileError
from atrous.core.files import atomic_path, compute_sha256
from atrous.core.install import describe_install


@dataclass(frozen=True)
class PackagedFile:
    """Weights inside a pip package, which is located but never imported.

    Args:
        package: Name of the package on the package index.
        file_name: Path of the file inside the package.
        sha256: SHA-256 of the file, in hexadecimal.
        licence: Licence of the weights, an SPDX identifier.
    """

    package: str
    file_name: str
    sha256: str
    licence: str

    @property
    def source(self) -> str:
        """Where the file comes from, as text."""
        return f"package {self.package}"

    def fetch(self) -> Path:
        """Return the path of the file.

        Raises:
            MachineError: The package is not installed.
            ModelFileError: The file is not the published one.
        """
        spec = importlib.util.find_spec(self.package.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise MachineError(
                f"the package {self.package}, which holds the ImageNet weights, is not installed",
                f"{describe_install(self.package)}, or use `weights=none`.",
            )
        path = Path(spec.submodule_search_locations[0]) / self.file_name
        if not path.is_file() or compute_sha256(path) != self.sha256:
            raise ModelFileError(
                f"{path}: is not the published file (SHA-256 {self.sha256})", f"Install {self.package} again."
            )
        return path


@dataclass(frozen=True)
class PublishedFile:
    """Weights for download.

    Args:
        url: Address of the file.
        licence: Licence of the weights: an SPDX identifier, or "unknown".
        file_name: Name of the file in the cache. Default: as published.
    """

    url: str
    licence: str
    file_name: str = ""

    @property
    def source(self) -> str:
        """Where the file comes from, as text."""
        return self.url

    def fetch(self) -> Path:
        """Return the path of the file, downloaded at the first call; see `fetch_file`.

        Raises:
            MachineError: The download failed.
            ModelFileError: The file is not the published one.
        """
        return fetch_file(self.url, find_cache(), self.file_name)


def find_cache() -> Path:
    """Return the folder of downloaded weights: torch.hub's, which torchvision uses too."""
    import torch  # not at the top: names of published models are checked without it

    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch_file(url: str, folder: Path, file_name: str = "") -> Path:
    """Download a file once, and verify it if its name holds the first digits of its SHA-256: `name-<digits>.pth`.

    A file that exists already may have been put there by hand: it is never changed.

    Args:
        url: Address of the file.
        folder: Folder to keep it in.
        file_name: Its name in that folder. Default: as published.
    Raises:
        MachineError: The server does not answer, or the transfer broke off; the message says where to put the file.
        ModelFileError: The existing or the downloaded file does not have the SHA-256 that its name holds.
    """
    file_name = file_name or url.rsplit("/", 1)[-1]
    path = folder / file_name
    found = re.search(r"-([0-9a-f]{8,})$", path.stem)
    digits = found.group(1) if found else ""
    if path.is_file():
        if not compute_sha256(path).startswith(digits):
            raise ModelFileError(
                f"{path}: is not the published file, its SHA-256 does not start with {digits}",
                f"It was left as it is. Move it away to download {url}, or put the right file there.",
            )
        return path
    try:
        with atomic_path(path) as temporary:
            download(url, temporary)
            if not compute_sha256(temporary).startswith(digits):
                raise ModelFileError(
                    f"{url}: the download is not the published file, its SHA-256 does not start with {digits}",
                    f"Nothing was kept; try again, or put the right file at {path}.",
                )
    except DOWNLOAD_ERRORS as error:
        known = f"its SHA-256 starts with {digits}" if digits else "no SHA-256 is published"
        raise MachineError(
            f"{url} cannot be downloaded: {error}",
            f"Put the file at {path} ({known}); a training can start without it: `weights=none`.",
        ) from error
    return path

import fcntl
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from scipy.io import savemat

from svhn_sweep.config.data_sources import StanfordConfig
from svhn_sweep.data import download, load, stanford
from svhn_sweep.errors import DataError

NAMES = TRAIN, TEST, EXTRA = "train_32x32.mat", "test_32x32.mat", "extra_32x32.mat"


@dataclass
class Server:
    """Settings and records of an HTTP server that serves files from memory.

    Attributes:
        files: The files by name.
        url: The server's address.
        cut_after: For each of the next responses the bytes after which the connection is closed.
        ranges: Whether the server supports range requests.
        requests: The name and the Range header of each request.
        content: Returns a file's content instead of `files`.
    """

    files: dict[str, bytes]
    url: str = ""
    cut_after: list[int] = field(default_factory=list)
    ranges: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    content: Callable[[str], bytes] | None = None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server({})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            requested_range = self.headers["Range"]
            state.requests.append((name, requested_range))
            if name not in state.files:
                self.send_error(404)
                return
            whole = state.content(name) if state.content else state.files[name]
            start = 0
            if requested_range and state.ranges:
                start = int(requested_range.removeprefix("bytes=").removesuffix("-"))
            if start and start >= len(whole):
                self.send_error(416)
                return
            body = whole[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut_after.pop(0)] if state.cut_after else body)

        def log_message(self, *arguments: object) -> None:
            pass

    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/"
        yield state
        http.shutdown()
        thread.join()


def mat(path: Path, per_digit: list[int], shade: int) -> bytes:
    """A .mat file like Stanford's: colour crops, the digit 0 labelled 10.

    The first pixel of each crop has the grey value `shade`.
    """
    labels = np.repeat(np.arange(10), per_digit)
    images = np.random.default_rng(shade).integers(2, 255, (32, 32, 3, len(labels)), dtype=np.uint8)
    images[0, 0] = shade
    savemat(path, {"X": images, "y": np.where(labels == 0, 10, labels)[:, None]})
    return path.read_bytes()


@pytest.fixture
def small(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StanfordConfig:
    """A config for small files: 12 training, 4 test (3 of 9) and 20 extra crops of each digit."""
    source = tmp_path / "source"
    source.mkdir()
    counts = {TRAIN: [12] * 10, TEST: [4] * 9 + [3], EXTRA: [20] * 10}
    server.files = {
        name: mat(source / name, counts[name], shade) for shade, name in enumerate(NAMES, start=100)
    }
    monkeypatch.setattr(stanford, "BASE_URL", server.url)
    for name, content in server.files.items():
        monkeypatch.setitem(stanford.SHA256, name, hashlib.sha256(content).hexdigest())
    return StanfordConfig(
        folder=str(tmp_path / "stanford"), extra=False, train_size=100, test_size=40, seed=42
    )


def test_the_subset_is_balanced_and_grey(small: StanfordConfig) -> None:
    splits = load(small, test=True)
    assert splits.source == "stanford"
    assert (np.bincount(splits.y_train) == 10).all()
    assert splits.y_test is not None
    assert (np.bincount(splits.y_test) == 4).all()
    assert splits.x_train.shape == (100, 32, 32, 1)
    # 0.9999 of the shade 100
    assert np.allclose(splits.x_train[:, 0, 0, 0], (0.2989 + 0.5870 + 0.1140) * 100)


def test_training_crops_replace_missing_test_digits(small: StanfordConfig) -> None:
    splits = load(small, test=True)
    assert splits.x_test is not None
    assert splits.y_test is not None
    from_training_file = np.isclose(splits.x_test[:, 0, 0, 0], 99.99)
    assert splits.y_test[from_training_file].tolist() == [9]
    in_training = {image.tobytes() for image in splits.x_train}
    assert not any(image.tobytes() in in_training for image in splits.x_test)


def test_extra_digits_are_used_on_request_only(small: StanfordConfig, server: Server) -> None:
    load(small, test=True)
    assert EXTRA not in [name for name, _ in server.requests]
    splits = load(replace(small, extra=True, train_size=300), test=True)
    shades = set(np.round(splits.x_train[:, 0, 0, 0]))
    assert shades == {100.0, 102.0}


def test_too_few_of_a_digit_is_an_error(small: StanfordConfig) -> None:
    with pytest.raises(
        DataError, match=r"data.train_size=130 needs 1 more of the digit 0 than there are"
    ):
        load(replace(small, train_size=130), test=True)


def test_files_are_downloaded_once(small: StanfordConfig, server: Server) -> None:
    load(small, test=True)
    load(small, test=True)
    load(replace(small, train_size=50), test=True)
    assert len(server.requests) == 2


def test_hosts_that_share_a_folder_download_once(small: StanfordConfig, server: Server) -> None:
    with ThreadPoolExecutor(4) as hosts:
        digests = list(hosts.map(lambda _: load(small, test=True).sha256, range(4)))
    assert len(set(digests)) == 1
    assert len(server.requests) == 2
    assert {path.suffix for path in Path(small.folder).iterdir()} == {".mat", ".h5"}


def test_an_interrupted_download_is_resumed(small: StanfordConfig, server: Server) -> None:
    server.cut_after = [100_000, 50_000]
    load(small, test=True)
    ranges = [requested_range for name, requested_range in server.requests if name == TRAIN]
    assert ranges == [None, "bytes=98304-", "bytes=147456-"]  # whole blocks are kept


def test_without_range_requests_a_download_starts_again(
    small: StanfordConfig, server: Server
) -> None:
    server.ranges, server.cut_after = False, [100_000]
    load(small, test=True)


def test_a_complete_part_file_is_only_verified(small: StanfordConfig, server: Server) -> None:
    folder = Path(small.folder)
    folder.mkdir()
    (folder / f"{TRAIN}.part").write_bytes(server.files[TRAIN])
    load(small, test=True)
    assert (folder / TRAIN).exists()


def test_a_failed_download_keeps_the_received_bytes(small: StanfordConfig, server: Server) -> None:
    server.cut_after = [100_000] + [0] * 10
    with pytest.raises(
        DataError, match=r"cannot be downloaded after 5 attempts.*98,304 bytes are kept in"
    ):
        load(small, test=True)
    assert (Path(small.folder) / f"{TRAIN}.part").stat().st_size == 98_304
    assert not (Path(small.folder) / TRAIN).exists()


def test_a_wrong_checksum_is_refused(small: StanfordConfig, server: Server) -> None:
    server.files[TRAIN] = server.files[TRAIN][:-1] + b"?"
    with pytest.raises(DataError, match=r"must have the SHA-256 .* thrown away"):
        load(small, test=True)
    assert list(Path(small.folder).iterdir()) == []


def test_a_process_that_waited_for_a_wrong_download_downloads_again(
    small: StanfordConfig,
    server: Server,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requested = threading.Event()
    refused = threading.Event()
    flock = fcntl.flock

    def observed_flock(file: BinaryIO, operation: int) -> None:
        try:
            flock(file, operation)
        except BlockingIOError:
            refused.set()
            raise

    monkeypatch.setattr(fcntl, "flock", observed_flock)

    def wrong_at_first(name: str) -> bytes:
        """The first response is wrong, and is sent once the second host waits for the lock."""
        if name != TRAIN or requested.is_set():
            return server.files[name]
        requested.set()
        assert refused.wait(30)
        return server.files[TRAIN][:-1] + b"?"

    server.content = wrong_at_first
    with ThreadPoolExecutor(2) as hosts:
        first = hosts.submit(load, small, test=True)
        assert requested.wait(30)
        second = hosts.submit(load, small, test=True)
        with pytest.raises(DataError, match=r"must have the SHA-256 .* thrown away"):
            first.result()
        assert second.result().source == "stanford"
    assert (
        f"{TRAIN}.part is being downloaded by another process; waiting for it"
        in capfd.readouterr().err
    )


def test_a_file_that_the_server_lacks_is_an_error(small: StanfordConfig, server: Server) -> None:
    del server.files[TEST]
    with pytest.raises(DataError, match=r"test_32x32\.mat cannot be downloaded: 404"):
        load(small, test=True)
    assert [path.name for path in Path(small.folder).iterdir()] == [TRAIN]


@pytest.mark.parametrize("content", [b"", b"no matlab", "cut", "one byte differs"])
def test_a_file_that_is_not_stanfords_is_refused_before_it_is_read(
    small: StanfordConfig, server: Server, content: bytes | str
) -> None:
    whole = server.files[TEST]
    damaged = {"cut": whole[:130], "one byte differs": whole[:-1] + b"?"}
    path = Path(small.folder) / TEST
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else damaged[content])
    with pytest.raises(
        DataError,
        match=r"test_32x32\.mat must have the SHA-256 \w+ but has \w+; remove it, and the same",
    ):
        load(small, test=True)
    path.unlink()
    assert load(small, test=True).source == "stanford"

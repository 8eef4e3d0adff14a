import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from o2okit.data import fetch as fetching
from o2okit.data import sources
from o2okit.data.fetch import Mirror, fetch, mirrors
from o2okit.data.hdf5 import write_hdf5
from o2okit.data.sources import FILES
from o2okit.errors import UserError

TASK = "hopper-medium-v2"
NAME = "hopper_medium-v2.hdf5"


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; obeys Range; ``server.behave`` breaks it."""

    def do_GET(self):
        server, start = self.server, 0
        server.requests.append((self.path, self.headers.get("Range")))
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.page:
            self.send_header("Content-Type", "text/html; charset=utf-8")
        if server.announce:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body[start:] if cut is None else body[start : start + cut])
        self.close_connection = True

    def log_message(self, *args):
        """Quiet."""


@pytest.fixture
def serve(monkeypatch):
    """Starts servers; each is a namespace with ``url`` and what it was asked."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "PAUSE", 0)
    running = []

    def start(files, *, ranges=True, cuts=(), announce=True, page=False):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files, server.ranges, server.cuts = files, ranges, list(cuts)
        server.announce, server.page, server.requests = announce, page, []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        url = f"http://127.0.0.1:{server.server_address[1]}"
        return SimpleNamespace(url=url, requests=server.requests, server=server)

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def body(tmp_path, fields):
    return write_hdf5(tmp_path / "original", fields(n=4000), {}).read_bytes()


@pytest.fixture(autouse=True)
def published(monkeypatch, body, tmp_path):
    """The published size and hash are those of ``body``; nothing lies in the user's folders."""
    file = FILES[TASK]._replace(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    monkeypatch.setitem(FILES, TASK, file)
    monkeypatch.setitem(FILES, "relocate-expert-v1", FILES["relocate-expert-v1"])
    for name in ("O2OKIT_DATA_DIR", "D4RL_MIRRORS", "MINARI_DATASETS_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("O2OKIT_HOME", str(tmp_path))
    return file


def flat(server):
    return Mirror("flat", server.url)


# --- it arrives -----------------------------------------------------------------------------------
def test_a_file_is_fetched_into_d4rls_cache_from_d4rls_folders(tmp_path, serve, body):
    server = serve({f"/mirror/gym_mujoco_v2/{NAME}": body})
    seen = []
    path = fetch(
        TASK, use=[Mirror("tree", f"{server.url}/mirror/")], progress=lambda *n: seen.append(n)
    )
    assert path == tmp_path / "cache" / NAME
    assert path.read_bytes() == body
    assert seen[-1] == (f"{server.url}/mirror/", len(body), len(body))
    assert not list(path.parent.glob("*.part"))
    assert not list(path.parent.glob("*.json")), "a published hash needs no record"
    assert sources.find(TASK).path == path


def test_a_file_that_is_there_is_not_fetched_again(serve, body):
    server = serve({f"/{NAME}": body})
    assert fetch(TASK, use=[flat(server)]) == fetch(TASK, use=[flat(server)])
    assert len(server.requests) == 1


def test_a_file_in_a_folder_that_cannot_be_written_is_there_all_the_same(serve, body, monkeypatch):
    path = fetch(TASK, use=[flat(serve({f"/{NAME}": body}))])

    def closed(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(fetching.FileLock, "acquire", closed)
    assert fetch(TASK, use=[flat(serve({}))]) == path


def test_the_folder_of_o2okit_comes_before_d4rls_cache(tmp_path, serve, body, monkeypatch):
    monkeypatch.setenv("O2OKIT_DATA_DIR", str(tmp_path / "mine"))
    assert fetch(TASK, use=[flat(serve({f"/{NAME}": body}))]) == tmp_path / "mine" / NAME


def test_mirrors_of_the_environment_are_used(serve, body, monkeypatch):
    server = serve({f"/x/{NAME}": body})
    monkeypatch.setenv("D4RL_MIRRORS", f"flat={server.url}/x")
    assert fetch(TASK).read_bytes() == body


def test_the_known_mirrors_are_asked_for_the_known_addresses(monkeypatch):
    monkeypatch.delenv("D4RL_MIRRORS", raising=False)
    assert [mirror.url(FILES[TASK]) for mirror in mirrors()] == [
        f"http://rail.eecs.berkeley.edu/datasets/offline_rl/gym_mujoco_v2/{NAME}",
        "https://huggingface.co/datasets/imone/D4RL/resolve/"
        f"9ed58d8a76c12f4c1cb5db51fa71389e703d2ec5/{NAME}",
    ]


# --- it breaks off --------------------------------------------------------------------------------
def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(serve, body):
    server = serve({f"/{NAME}": body}, cuts=[1000, 5000])
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body
    assert [asked for _, asked in server.requests] == [None, "bytes=1000-", "bytes=6000-"]


def test_a_connection_may_break_any_number_of_times_as_long_as_bytes_arrive(serve, body):
    server = serve({f"/{NAME}": body}, cuts=[100] * 7)
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body
    assert len(server.requests) == 8


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(tmp_path, serve, body):
    server = serve({f"/{NAME}": body}, cuts=[1000, 0, 0, 0])
    with pytest.raises(UserError, match=r"ended early, 1,000 bytes so far"):
        fetch(TASK, use=[flat(server)])
    assert not (tmp_path / "cache" / NAME).exists(), "an unfinished file has another name"
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body
    assert server.requests[-1] == (f"/{NAME}", "bytes=1000-")


def test_a_later_mirror_goes_on_where_an_earlier_one_broke_off(serve, body):
    first = serve({f"/{NAME}": body}, cuts=[1000, 0, 0, 0])
    second = serve({f"/{NAME}": body})
    assert fetch(TASK, use=[flat(first), flat(second)]).read_bytes() == body
    assert second.requests == [(f"/{NAME}", "bytes=1000-")]


def test_a_server_without_ranges_sends_all_again(serve, body):
    server = serve({f"/{NAME}": body}, ranges=False, cuts=[1000])
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body


def test_a_server_that_announces_no_length_is_held_to_the_published_one(serve, body):
    server = serve({f"/{NAME}": body}, announce=False, cuts=[1000])
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body


def test_what_has_arrived_is_not_given_up_for_less(tmp_path, serve, body):
    """A server without ranges breaks off earlier than another one did; a login page is no file."""
    part = tmp_path / "cache" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(body[:5000])
    worse = serve({f"/{NAME}": body}, ranges=False, cuts=[100, 200, 300, 400, 500] * 3)
    page = serve({f"/{NAME}": b"<html>log in</html>"}, ranges=False, announce=False, page=True)
    with pytest.raises(UserError, match=r"(?s)answers with a web page.*what has arrived is kept"):
        fetch(TASK, use=[flat(worse), flat(page)])
    assert part.read_bytes() == body[:5000]
    assert [path.name for path in part.parent.glob("*.part*")] == [part.name]
    good = serve({f"/{NAME}": body})
    assert fetch(TASK, use=[flat(good)]).read_bytes() == body
    assert [asked for _, asked in good.requests] == ["bytes=5000-"]


@pytest.mark.parametrize("url", ["http://a..b/x", "http://127.0.0.1:1/dätä"])
def test_after_an_address_that_is_none_the_next_mirror_is_asked(serve, body, url):
    good = serve({f"/{NAME}": body})
    assert fetch(TASK, use=[Mirror("flat", url), flat(good)]).read_bytes() == body


# --- it is another file ---------------------------------------------------------------------------
def test_a_wrong_hash_is_refused_and_leaves_nothing(tmp_path, serve, body):
    other = body[:-1] + bytes([body[-1] ^ 1])
    server = serve({f"/{NAME}": other})
    with pytest.raises(
        UserError, match=r"another file than D4RL's: the SHA-256 is [0-9a-f]{64}, but"
    ):
        fetch(TASK, use=[flat(server)])
    assert not list((tmp_path / "cache").glob("hopper*"))


def test_the_next_mirror_is_asked_after_404_a_wrong_size_and_a_wrong_hash(serve, body):
    other = body[:-1] + bytes([body[-1] ^ 1])
    wrong = [serve({}), serve({f"/{NAME}": body[:-1]}), serve({f"/{NAME}": other})]
    right = serve({f"/{NAME}": body})
    use = [flat(server) for server in (*wrong, right)]
    assert fetch(TASK, use=use).read_bytes() == body
    assert len(right.requests) == 1


def test_when_all_mirrors_fail_the_error_says_what_each_answered(serve, body):
    missing, older = serve({}), serve({f"/{NAME}": body[:-7]})
    with pytest.raises(UserError) as caught:
        fetch(TASK, use=[flat(missing), flat(older), Mirror("flat", "http://127.0.0.1:1")])
    message = str(caught.value)
    assert f"{missing.url}/{NAME}\n    HTTP status 404" in message
    assert f"has {len(body) - 7:,} bytes where D4RL's file has {len(body):,}" in message
    assert f"http://127.0.0.1:1/{NAME}" in message
    assert "refused" in message
    assert "D4RL_MIRRORS" in message


def test_a_beginning_of_another_file_is_given_up_for_a_whole_one(tmp_path, serve, body):
    part = tmp_path / "cache" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 500)
    server = serve({f"/{NAME}": body})
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body
    assert [asked for _, asked in server.requests] == ["bytes=500-", None]


def test_a_whole_part_is_checked_and_takes_its_name_without_a_mirror(tmp_path, body):
    part = tmp_path / "cache" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(body)
    path = fetch(TASK, use=[Mirror("flat", "http://127.0.0.1:1")])
    assert path.read_bytes() == body
    assert not part.exists()


@pytest.mark.parametrize("change", [0, 1])
def test_a_part_that_is_as_long_or_longer_but_another_file_is_fetched_anew(
    tmp_path, serve, body, change
):
    part = tmp_path / "cache" / f"{NAME}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * (len(body) + change))
    server = serve({f"/{NAME}": body})
    assert fetch(TASK, use=[flat(server)]).read_bytes() == body
    assert [asked for _, asked in server.requests] == [None]


@pytest.mark.parametrize("change", [-1, 0, 1])
def test_a_file_in_place_that_is_another_one_is_named_and_left(tmp_path, serve, body, change):
    path = tmp_path / "cache" / NAME
    path.parent.mkdir()
    path.write_bytes(b"x" * (len(body) + change))
    server = serve({f"/{NAME}": body})
    with pytest.raises(UserError, match=r"is another file than D4RL's.*left as it is"):
        fetch(TASK, use=[flat(server)])
    assert path.read_bytes() == b"x" * (len(body) + change)
    assert server.requests == []


# --- no published hash ----------------------------------------------------------------------------
UNKNOWN = "relocate-expert-v1"


@pytest.fixture
def unknown(tmp_path, fields):
    values = fields(n=400, obs=39, act=30)
    values["terminals"][[3, 14]] = True
    return write_hdf5(tmp_path / "unknown", values, {}).read_bytes()


def test_a_first_download_is_recorded(tmp_path, serve, unknown):
    server = serve({f"/{UNKNOWN}.hdf5": unknown})
    path = fetch(UNKNOWN, use=[flat(server)])
    record = json.loads((tmp_path / "cache" / f"{UNKNOWN}.hdf5.sha256.json").read_text())
    assert record["sha256"] == hashlib.sha256(unknown).hexdigest()
    assert (record["bytes"], record["rows"]) == (len(unknown), 400)
    assert (record["terminals"], record["timeouts"]) == (2, 40)
    assert record["url"] == f"{server.url}/{UNKNOWN}.hdf5"
    assert record["date"].startswith("20")
    assert record["mean_return"] == pytest.approx(sum_of_rewards(path) / 42, rel=1e-5)


def sum_of_rewards(path):
    return float(sources.hdf5.read_rows(path).rewards.sum(dtype="float64"))


def test_a_later_download_must_equal_the_recorded_one(tmp_path, serve, unknown, fields):
    server = serve({f"/{UNKNOWN}.hdf5": unknown})
    path = fetch(UNKNOWN, use=[flat(server)])
    record = sources.record_of(path).read_bytes()
    path.unlink()
    other = write_hdf5(tmp_path / "o", fields(n=400, obs=39, act=30, seed=1), {}).read_bytes()
    with pytest.raises(UserError, match="another file than D4RL's"):
        fetch(UNKNOWN, use=[flat(serve({f"/{UNKNOWN}.hdf5": other}))])
    assert sources.record_of(path).read_bytes() == record
    (tmp_path / "cache" / f"{UNKNOWN}.hdf5.part").write_bytes(unknown[:500])
    assert fetch(UNKNOWN, use=[flat(server)]).read_bytes() == unknown
    assert server.requests[-1][1] is None, "without a published hash nothing is pieced together"
    assert sources.record_of(path).read_bytes() == record, "the first record stays"
    path.write_bytes(other)
    with pytest.raises(UserError, match="another file than D4RL's"):
        fetch(UNKNOWN, use=[flat(server)])


def test_two_mirrors_bytes_are_never_pieced_together(tmp_path, serve, unknown, fields):
    other = write_hdf5(tmp_path / "o", fields(n=400, obs=39, act=30, seed=1), {}).read_bytes()
    first = serve({f"/{UNKNOWN}.hdf5": other}, cuts=[len(other) // 2, 0, 0, 0])
    second = serve({f"/{UNKNOWN}.hdf5": unknown})
    assert fetch(UNKNOWN, use=[flat(first), flat(second)]).read_bytes() == unknown
    assert [asked for _, asked in second.requests] == [None]


def test_what_is_said_of_a_broken_download_is_true(serve, unknown, body):
    begun = serve({f"/{UNKNOWN}.hdf5": unknown, f"/{NAME}": body}, cuts=[1000, 0, 0, 0] * 2)
    with pytest.raises(UserError, match=r"begins anew, as no hash of the file is published"):
        fetch(UNKNOWN, use=[flat(begun)])
    with pytest.raises(UserError, match="what has arrived is kept"):
        fetch(TASK, use=[flat(begun)])


@pytest.mark.parametrize("body_of", ["web page", "cut off"])
def test_rubbish_is_not_recorded(tmp_path, serve, unknown, body_of):
    rubbish = b"<html>down for maintenance</html>" if body_of == "web page" else unknown[:-100]
    server = serve({f"/{UNKNOWN}.hdf5": rubbish})
    with pytest.raises(UserError, match=r"web page|cut off"):
        fetch(UNKNOWN, use=[flat(server)])
    assert not list((tmp_path / "cache").glob(f"{UNKNOWN}*"))


# --- it is not possible ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("hopper-medium-v1", r"Did you mean 'hopper-medium-v2'"),
        ("relocate-human-v1", r"unknown task with a file of D4RL's 'relocate-human-v1'"),
        ("pen-binary-v0", r"Use pen-cloned-v1 instead"),
        ("hopper", r"names an environment, no dataset"),
    ],
)
def test_a_task_without_a_file_is_refused(serve, task, said):
    with pytest.raises(UserError, match=said):
        fetch(task, use=[])


@pytest.mark.parametrize(
    "entry",
    [
        "http://x",
        "ftp=http://x",
        "tree=/local",
        "flat=file:///etc",
        "tree=http://[abc",
        "flat=http:",
    ],
)
def test_mirrors_of_another_form_are_refused(monkeypatch, entry):
    monkeypatch.setenv("D4RL_MIRRORS", f"flat=http://good {entry}")
    with pytest.raises(UserError, match="D4RL_MIRRORS holds"):
        mirrors()


def test_a_full_disk_is_named_before_the_transfer(serve, body, monkeypatch):
    server = serve({f"/{NAME}": body})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"0 MB left.*O2OKIT_DATA_DIR"):
        fetch(TASK, use=[flat(server)])
    assert server.requests == []


def test_two_processes_do_not_write_one_file(tmp_path, serve, body):
    from filelock import FileLock

    (tmp_path / "cache").mkdir()
    with (
        FileLock(tmp_path / "cache" / f".{NAME}.lock"),
        pytest.raises(UserError, match="by another process"),
    ):
        fetch(TASK, use=[flat(serve({f"/{NAME}": body}))])


def test_a_folder_that_cannot_be_written_is_named(tmp_path, serve, body):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"could not write .*O2OKIT_DATA_DIR"):
        fetch(TASK, folder=tmp_path / "file" / "x", use=[flat(serve({f"/{NAME}": body}))])

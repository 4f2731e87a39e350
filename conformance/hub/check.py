"""Hearth and huggingface_hub on one cache: what one writes, the other uses. Started by ./run, which says how.

Arguments: hearth binary, hub program, folder for the root of the repository, folder for its original/.
"""
import hashlib, os, signal, subprocess, sys, tempfile, time

hearth, hub, root, original = sys.argv[1:5]
work = tempfile.mkdtemp()
log_path = os.path.join(work, "requests")
address_file = os.path.join(work, "address")
server = subprocess.Popen([hub, "-address-file", address_file, root, original], stdout=open(log_path, "w"))
while not os.path.exists(address_file) or not open(address_file).read():
    if server.poll() is not None:
        sys.exit("the hub did not start")
    time.sleep(0.05)
os.environ.update(HF_ENDPOINT=open(address_file).read(), HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1")
REPO = "acme/tiny"


def content_requests():
    """Requests that carried a file's bytes so far."""
    return sum(1 for line in open(log_path) if line.split()[1] == "GET" and len(line.split()) > 3)


def python(home, code, **env):
    """A fresh interpreter, since the library reads its variables once."""
    r = subprocess.run([sys.executable, "-c", code], env={**os.environ, "HF_HOME": home, **env}, text=True, capture_output=True)
    if r.returncode:
        sys.exit(f"python failed:\n{code}\n{r.stderr}")
    return r.stdout.strip().splitlines()[-1] if r.stdout.strip() else ""


def run(home, *args, **env):
    r = subprocess.run([hearth, *args], env={**os.environ, "HF_HOME": home, **env}, text=True, capture_output=True)
    if r.returncode:
        sys.exit(f"hearth {args} failed:\n{r.stderr}")
    return r.stdout.strip(), r.stderr


def check(what, ok):
    print("ok  " if ok else "FAIL", what)
    if not ok:
        sys.exit(1)


try:
    version = python(work, "import huggingface_hub; print(huggingface_hub.__version__)")
    print("huggingface_hub", version)

    # Hearth writes, Python reads.
    home = os.path.join(work, "a")
    path, _ = run(home, "pull", REPO)
    before = content_requests()
    got = python(home, f"from huggingface_hub import snapshot_download; print(snapshot_download('{REPO}'))", HF_HUB_OFFLINE="1")
    check("snapshot_download, offline, finds Hearth's snapshot", got == path)
    got = python(home, f"from huggingface_hub import hf_hub_download; print(hf_hub_download('{REPO}', 'config.json'))", HF_HUB_OFFLINE="1")
    check("hf_hub_download, offline, finds a file of it", got == os.path.join(path, "config.json"))
    got = python(home, f"from huggingface_hub import snapshot_download; print(snapshot_download('{REPO}', allow_patterns=['*.json', '*.safetensors'], ignore_patterns=['original/*']))")
    check("snapshot_download, online, fetches none of the same files again", got == path and content_requests() == before)
    got = python(home, "from huggingface_hub import scan_cache_dir as s; i = s(); r, = i.repos; v, = r.revisions\n"
                 "print(len(i.warnings), r.repo_id, sorted(r.refs), v.nb_files)")
    check(f"scan_cache_dir understands it: {got}", got == f"0 {REPO} ['main'] {len(os.listdir(path))}")
    same = all(open(os.path.join(path, n), "rb").read() == open(os.path.join(root, n), "rb").read() for n in os.listdir(root) if n.endswith((".json", ".safetensors")))
    check("every file is what the hub holds", same)

    # Python writes, Hearth reads.
    home = os.path.join(work, "b")
    path = python(home, f"from huggingface_hub import snapshot_download; print(snapshot_download('{REPO}'))")
    before = content_requests()
    out, _ = run(home, "pull", REPO)
    check("hearth pull fetches nothing of Python's snapshot again", out == path and content_requests() == before)
    out, _ = run(home, "pull", REPO, "--layout", "original", HF_HUB_OFFLINE="1")
    check("hearth pull, offline, finds original/ in it", out == os.path.join(path, "original"))
    out, _ = run(home, "inspect", REPO, HF_HUB_OFFLINE="1")
    check("hearth inspect, offline, opens it by name", "MXFP4" in out)

    # A part of Python's snapshot is missing: Hearth fetches that part.
    home = os.path.join(work, "c")
    path = python(home, f"from huggingface_hub import snapshot_download; print(snapshot_download('{REPO}', allow_patterns='*.json'))")
    r = subprocess.run([hearth, "inspect", REPO], env={**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1"}, text=True, capture_output=True)
    check("an unfinished snapshot is not used offline", r.returncode == 1 and "not complete" in r.stderr)
    out, err = run(home, "pull", REPO)
    shards = [n for n in os.listdir(root) if n.endswith(".safetensors")]
    check("hearth pull completes Python's snapshot", out == path and f"fetched now: {len(shards)}" in err)

    # One lock for both.
    home = os.path.join(work, "d")
    lock = os.path.join(home, "hub", ".locks", "models--acme--tiny", hashlib.sha256(open(os.path.join(root, shards[0]), "rb").read()).hexdigest() + ".lock")
    os.makedirs(os.path.dirname(lock))
    holder = subprocess.Popen([sys.executable, "-c", "import sys, huggingface_hub.utils as u\nwith u.WeakFileLock(sys.argv[1]):\n print('held', flush=True); sys.stdin.read()", lock],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    puller = subprocess.Popen([hearth, "pull", REPO], env={**os.environ, "HF_HOME": home}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    line = puller.stderr.readline()
    check("hearth waits for Python's lock", "another process is downloading it" in line and puller.poll() is None)
    holder.stdin.close()
    puller.stderr.read()
    check("and goes on when it is released", puller.wait() == 0)
finally:
    server.send_signal(signal.SIGTERM)
    server.wait()

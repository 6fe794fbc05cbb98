"""skopeo's docker-daemon transport, both ways: an image that has been to another format and back is the same, and runs in
both modes."""
import json
import subprocess



def skopeo(engine, *args):
    p = subprocess.run(["skopeo", "--insecure-policy", *map(str, args)], env=engine.env(), capture_output=True, text=True,
                       timeout=120)
    assert p.returncode == 0, p
    return p.stdout


def test_there_and_back(engine, tmp_path):
    host = f"unix://{engine.sock}"
    before = json.loads(engine.cli("insula", "image", "inspect", "busybox").ok())[0]
    seen = json.loads(skopeo(engine, "inspect", "--daemon-host", host, "docker-daemon:busybox:latest"))
    assert seen["Os"] == "linux" and len(seen["Layers"]) == len(before["RootFS"]["Layers"])
    config = json.loads(skopeo(engine, "inspect", "--config", "--daemon-host", host, "docker-daemon:busybox:latest"))
    assert config["rootfs"]["diff_ids"] == before["RootFS"]["Layers"]
    skopeo(engine, "copy", "--src-daemon-host", host, "docker-daemon:busybox:latest", f"oci:{tmp_path}/oci:there")
    skopeo(engine, "copy", "--dest-daemon-host", host, f"oci:{tmp_path}/oci:there", "docker-daemon:back:1")
    after = json.loads(engine.cli("docker", "image", "inspect", "back:1").ok())[0]
    try:
        assert after["RootFS"] == before["RootFS"] and after["Config"]["Cmd"] == before["Config"]["Cmd"]
        for isolation in ("process", "hyperv"):
            said = engine.cli("docker", "run", "--rm", f"--isolation={isolation}", "--network", "none", "back:1", "echo", isolation)
            assert said.ok() == isolation
    finally:
        engine.cli("docker", "rmi", "back:1").ok()
    p = subprocess.run(["skopeo", "inspect", "--daemon-host", host, "docker-daemon:nothing:like-it"], capture_output=True, text=True,
                       env=engine.env(), timeout=60)
    assert p.returncode and "nothing:like-it" in p.stderr

"""The images that the units of the slides run: stand-ins made of busybox, in a registry of the lab's own, so that
`docker pull` is a real pull."""
import json
import os
import shutil
import socket
import subprocess

import harness

# The first process of a container gets no signal that it does not ask for: the shell does, so that `docker stop` is quick.
WEB_COMMAND = ["/bin/sh", "-c", "trap 'exit 0' TERM; httpd -f -p ${PORT:-80} -h /www & wait"]
IMAGES = {
    "library/busybox": ["/bin/sh"],
    "library/httpd": WEB_COMMAND,
    "library/nginx": WEB_COMMAND,
    "marceldegraaf/sinatra": WEB_COMMAND,
    "user_name/nginx_lb": WEB_COMMAND,
}
PAGE = "It works\n"
PORT = 5000


def _make_tar():
    """A root with busybox and a page."""
    where = harness.temp_dir()
    root = os.path.join(where, "root")
    for name in ("bin", "tmp", "www", "usr/local/bin"):
        os.makedirs(os.path.join(root, name))
    shutil.copy("/bin/busybox", os.path.join(root, "bin", "busybox"))
    for name in ("sh", "httpd", "sleep", "echo", "hostname", "cat"):
        os.symlink("busybox", os.path.join(root, "bin", name))
    with open(os.path.join(root, "www", "index.html"), "w") as page:
        page.write(PAGE)
    # What the slides' load balancer is started with; confd itself is tested elsewhere.
    script = os.path.join(root, "usr/local/bin/confd-watch")
    with open(script, "w") as text:
        text.write("#!/bin/sh\n%s\n" % WEB_COMMAND[2])
    os.chmod(script, 0o755)
    tar = os.path.join(where, "image.tar")
    subprocess.run(["tar", "-C", root, "-cf", tar, "."], check=True)
    return tar


def serve(address):
    """Starts the registry; it goes on until the test ends."""
    where = harness.temp_dir()
    config = os.path.join(where, "registry.yml")
    with open(config, "w") as text:
        text.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/registry}}\n"
                   "http: {addr: '%s:%d'}\n" % (where, address, PORT))
    with open(os.path.join(where, "log"), "w") as log:
        harness.start(["docker-registry", "serve", config], stdout=log, stderr=log)
    harness.wait_for(lambda: socket.create_connection((address, PORT)).close() or True, 10, "the registry")


def put(host, address):
    """Makes the images with the engine of this host and puts them into the registry; the host itself forgets them."""
    tar = host.take(_make_tar(), "/root/image.tar")
    names = {name: "%s:%d/%s" % (address, PORT, name) for name in IMAGES}
    for name, command in IMAGES.items():
        host.run(["docker", "import", "-c", "CMD " + json.dumps(command), tar, names[name]])
        host.run(["docker", "push", "-q", names[name]])
    host.run(["docker", "rmi"] + list(names.values()))

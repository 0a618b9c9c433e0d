"""confd with the resource, the template and the start script of the slides as they are printed: real nginx, our store on
127.0.0.1:4001 (Debian's etcd with CONFD_TEST_STORE=debian), /etc/confd and /etc/nginx. The test runs in mount and network namespaces of its own, where /etc is an overlay
and /run is empty, so that nothing of the host is touched and every port is free."""
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import harness

NGINX_TOML = """\
# /etc/confd/conf.d/nginx.toml
[template]
# The name of the template
# Confd will look in `/etc/conf.d/templates`
src = "nginx.tmpl"

# The location to place the rendered configuration file
dest = "/etc/nginx/sites-enabled/app.conf"

# The etcd keys or directory to watch
keys = [ "/services/nodejs" ]

# File ownership and mode information
owner = "root"
mode = "0644"

# Commands
check_cmd = "/usr/sbin/nginx -t"
reload_cmd = "/usr/sbin/service nginx reload"
"""

NGINX_TMPL = """\
upstream nodejs_pool {
  {{ range $server := .services_nodejs }}
      server {{ $server.Value }};
  {{ end }}
}
"""

# The slide's script, without the part that follows the logs for ever; it sleeps for less between attempts.
START_SCRIPT = """\
#!/bin/bash
# conf.d watch script

ETCD=127.0.0.1:4001
CONF=/etc/confd/conf.d/nginx.toml

# Try to make initial configuration every 5 seconds
until confd -onetime -node $ETCD -config-file $CONF; do
    sleep 0.5
done

# Start a polling `confd` process in the background
confd %s -node $ETCD -config-file $CONF &
echo $! > /run/confd.pid

# Start the Nginx service using the generated config
service nginx start
"""

# What the slides leave out: the server that uses the pool. The variable lets `nginx -t` pass before there is a pool.
NGINX_CONF = """\
pid /run/nginx.pid;
error_log /run/nginx-error.log;
events {}
http {
  access_log off;
  client_body_temp_path /run/nginx-body;
  proxy_temp_path /run/nginx-proxy;
  fastcgi_temp_path /run/nginx-fastcgi;
  uwsgi_temp_path /run/nginx-uwsgi;
  scgi_temp_path /run/nginx-scgi;
  include /etc/nginx/sites-enabled/*;
  server {
    listen 127.0.0.1:80;
    set $pool nodejs_pool;
    location / { proxy_pass http://$pool; }
  }
}
"""

APP_CONF = "/etc/nginx/sites-enabled/app.conf"
STORE = "http://127.0.0.1:4001"


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def enter_namespaces():
    """Starts this script again inside; as an ordinary user with a user namespace around. nginx is a daemon: it ends with
    the namespace of processes, even when the test is killed."""
    if os.environ.get("CONFD_DECK_INSIDE"):
        return
    flags = ([] if os.geteuid() == 0 else ["--map-root-user"]) + ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.environ["CONFD_DECK_INSIDE"] = "1"
    os.execvp("unshare", ["unshare"] + flags + [sys.executable, os.path.abspath(__file__)])


def build_world():
    directory = harness.temp_dir()
    run("mount", "--make-rprivate", "/")
    run("ip", "link", "set", "lo", "up")
    # An overlay needs a file system of its own below it: /tmp may be one already.
    run("mount", "-t", "tmpfs", "tmpfs", directory)
    for name in ("upper", "work"):
        os.mkdir(os.path.join(directory, name))
    run("mount", "-t", "overlay", "overlay", "-o",
        "lowerdir=/etc,upperdir=%s/upper,workdir=%s/work" % (directory, directory), "/etc")
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    for path in ("/etc/confd/conf.d", "/etc/confd/templates", "/etc/nginx/sites-enabled"):
        os.makedirs(path, exist_ok=True)
    for name in os.listdir("/etc/nginx/sites-enabled"):
        os.unlink(os.path.join("/etc/nginx/sites-enabled", name))
    for path, text in (("/etc/confd/conf.d/nginx.toml", NGINX_TOML), ("/etc/confd/templates/nginx.tmpl", NGINX_TMPL),
                       ("/etc/nginx/nginx.conf", NGINX_CONF)):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def request(method, path, form=None):
    data = urllib.parse.urlencode(form).encode() if form is not None else None
    with urllib.request.urlopen(urllib.request.Request(STORE + path, data=data, method=method), timeout=60) as answer:
        return json.loads(answer.read())


def register(name, address):
    request("PUT", "/v2/keys/services/nodejs/" + name, {"value": address})


def unregister(name):
    request("DELETE", "/v2/keys/services/nodejs/" + name)


def start_store():
    ours = os.environ.get("CONFD_TEST_STORE") != "debian"
    peer = "http://127.0.0.1:%d" % harness.free_port()
    argv = [harness.program("etcd") if ours else "/usr/bin/etcd", "--name", "one", "--data-dir",
            "/run/store", "--listen-client-urls", STORE, "--advertise-client-urls", STORE,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "one=" + peer]
    if not ours:
        argv += ["--enable-v2", "--logger=zap", "--log-level=error"]
    harness.start(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    harness.wait_for(lambda: request("GET", "/v2/keys/"), what="the store to answer")


class Backend:
    """A web server that answers with its own name."""

    def __init__(self, name):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = name.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.name = name
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def asked(count=12):
    """Who answers through nginx."""
    names = set()
    for _ in range(count):
        with urllib.request.urlopen("http://127.0.0.1:80/", timeout=60) as answer:
            names.add(answer.read().decode())
    return names


def rendered():
    with open(APP_CONF, encoding="utf-8") as file:
        return file.read()


def servers():
    return [line.split()[1].rstrip(";") for line in rendered().splitlines() if "server " in line]


def wait_for_servers(addresses):
    begun = time.monotonic()
    harness.wait_for(lambda: servers() == addresses, what="the servers %s" % addresses, step_s=0.005)
    return time.monotonic() - begun


def run_script(mode):
    with open("/run/start.sh", "w", encoding="utf-8") as file:
        file.write(START_SCRIPT % mode)
    log = open("/run/confd.log", "ab")
    script = harness.start(["bash", "/run/start.sh"], stdout=log, stderr=log)
    assert script.wait(60) == 0, log_text()


def log_text():
    with open("/run/confd.log", encoding="utf-8") as file:
        return file.read()


def stop_confd():
    with open("/run/confd.pid", encoding="utf-8") as file:
        pid = int(file.read())
    harness.wait_for(lambda: catches(pid, signal.SIGTERM), what="confd, which has just been started, to be there")
    os.kill(pid, signal.SIGTERM)
    harness.wait_for(lambda: not os.path.exists("/proc/%d" % pid) or zombie(pid), what="confd to end")


def catches(pid, number):
    with open("/proc/%d/status" % pid, encoding="utf-8") as file:
        caught = next(line.split()[1] for line in file if line.startswith("SigCgt:"))
    return int(caught, 16) >> (number - 1) & 1


def zombie(pid):
    with open("/proc/%d/stat" % pid, encoding="utf-8") as file:
        return file.read().split()[2] == "Z"


def main():
    enter_namespaces()
    build_world()
    binaries = harness.temp_dir()
    os.symlink(harness.program("confd"), os.path.join(binaries, "confd"))
    os.environ["PATH"] = binaries + ":" + os.environ["PATH"]
    start_store()
    cases = harness.Cases()
    one, two, three = Backend("one"), Backend("two"), Backend("three")
    config = ["-node", "127.0.0.1:4001", "-config-file", "/etc/confd/conf.d/nginx.toml"]

    @cases.case("a missing directory is an error that names the key, and the file is not made")
    def missing():
        done = subprocess.run(["confd", "-onetime"] + config, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1, done
        assert "100: Key not found (/services" in done.stderr, done.stderr
        assert not os.path.exists(APP_CONF)

    @cases.case("the slides' start script renders the pool and starts nginx, which balances over it")
    def script():
        register("web1", one.address)
        register("web2", two.address)
        run_script("-interval 10")
        assert servers() == [one.address, two.address], rendered()
        assert rendered() == ("upstream nodejs_pool {\n  \n      server %s;\n  \n      server %s;\n  \n}\n" %
                              (one.address, two.address)), rendered()
        status = os.stat(APP_CONF)
        assert (status.st_mode & 0o7777, status.st_uid) == (0o644, 0), status
        harness.wait_for(lambda: asked() == {"one", "two"}, what="nginx to balance over both")

    @cases.case("confd leaves on SIGTERM, says so, and leaves no staged file behind")
    def sigterm():
        stop_confd()
        assert "INFO Captured terminated. Exiting..." in log_text()
        assert os.listdir("/etc/nginx/sites-enabled") == ["app.conf"]

    @cases.case("in watch mode a changed key is in the file within a second, and nginx serves by it")
    def watch():
        run_script("-watch")

        def add():
            unregister("web3")
            wait_for_servers([one.address, two.address])
            register("web3", three.address)
            return wait_for_servers([one.address, two.address, three.address])
        register("web3", three.address)
        wait_for_servers([one.address, two.address, three.address])
        took = harness.quick_enough(add, 1, "a new key in the file")
        print("# a new key was in the file after %.0f ms" % (took * 1000))
        harness.wait_for(lambda: asked() == {"one", "two", "three"}, timeout_s=5, what="nginx to use the new server")

    @cases.case("a deleted key leaves the file within a second")
    def deleted():
        def remove():
            register("web1", one.address)
            wait_for_servers([one.address, two.address, three.address])
            unregister("web1")
            return wait_for_servers([two.address, three.address])
        harness.quick_enough(remove, 1, "dropping a deleted key")
        harness.wait_for(lambda: asked() == {"two", "three"}, timeout_s=5, what="nginx to drop the server")

    @cases.case("an expired key leaves the file")
    def expired():
        request("PUT", "/v2/keys/services/nodejs/web4", {"value": one.address, "ttl": "5"})
        wait_for_servers([two.address, three.address, one.address])
        wait_for_servers([two.address, three.address])

    @cases.case("a burst of changes ends with the last of them, and few reloads")
    def burst():
        before = log_text().count("has been updated")
        for number in range(100):
            register("web2", "127.0.0.1:%d" % (10000 + number))
        wait_for_servers(["127.0.0.1:10099", three.address])
        register("web2", two.address)
        wait_for_servers([two.address, three.address])
        reloads = log_text().count("has been updated") - before
        print("# 101 changes, %d reloads" % reloads)
        assert reloads < 50, reloads

    @cases.case("a configuration that nginx refuses never stays in place, and the next good one does")
    def refused():
        before = rendered()
        register("web2", "not an address")
        harness.wait_for(lambda: "Config check failed: exit status 1" in log_text(), timeout_s=5, what="the check to fail")
        harness.wait_for(lambda: rendered() == before, timeout_s=2, what="the old file to be back")
        # A reload lets nginx's old workers end in their own time.
        harness.wait_for(lambda: asked(4) == {"two", "three"}, timeout_s=5, what="nginx to balance over the old pool")
        register("web2", one.address)
        wait_for_servers([one.address, three.address])
        harness.wait_for(lambda: asked() == {"one", "three"}, timeout_s=5, what="nginx to use the repaired pool")
        assert os.listdir("/etc/nginx/sites-enabled") == ["app.conf"], os.listdir("/etc/nginx/sites-enabled")

    cases.run()


if __name__ == "__main__":
    main()

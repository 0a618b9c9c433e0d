"""Certificates of a test's own, made by openssl(1) as it runs."""
import os
import subprocess

import harness


class Authority:
    def __init__(self, name="ca"):
        self.dir = harness.temp_dir()
        self.cert, self.key = os.path.join(self.dir, name + ".crt"), os.path.join(self.dir, name + ".key")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                     "/CN=" + name, "-keyout", self.key, "-out", self.cert)

    def openssl(self, *arguments):
        subprocess.run(["openssl"] + list(arguments), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       stdin=subprocess.DEVNULL)

    def issue(self, name, for_whom="DNS:localhost,IP:127.0.0.1"):
        """Paths of a certificate and its key."""
        base = os.path.join(self.dir, name)
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=" + name, "-keyout",
                     base + ".key", "-out", base + ".csr")
        with open(base + ".ext", "w") as file:
            file.write("subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n" % for_whom)
        self.openssl("x509", "-req", "-in", base + ".csr", "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                     "-extfile", base + ".ext", "-out", base + ".crt")
        return base + ".crt", base + ".key"

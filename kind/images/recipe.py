"""What every image is made of: layers of Debian packages, of wheels, of the project's code, and their settings."""

from __future__ import annotations

from collections.abc import Mapping

from kind.images.model import PYTHON, CodeLayer, DebianLayer, Image, Layer, WheelLayer
from kind.images.paths import Selection, words

_DEBIAN_DROP = Selection(
    drop=words(
        """
        usr/share/doc/* usr/share/man/* usr/share/info/* usr/share/locale/* usr/share/lintian/*
        usr/share/bug/* usr/share/common-licenses/*-old usr/share/perl5/* usr/share/debconf/*
        usr/share/pixmaps/* usr/share/applications/* usr/share/binfmts/* usr/share/gcc/* usr/share/gdb/*
        usr/share/bash-completion/* usr/share/zsh/* usr/share/initramfs-tools/* usr/lib/*/gconv/*
        usr/lib/systemd/* usr/lib/tmpfiles.d/* usr/lib/sysusers.d/* usr/sbin/* etc/cron.* etc/init.d/*
        etc/logcheck/* etc/update-motd.d/* etc/kernel/* etc/ca-certificates/* etc/ld.so.conf.d/fakeroot*
        """
    ),
    keep=("usr/share/doc/*/copyright",),
)

_APPLETS = words(
    """
    [ awk base64 basename cat chmod chown cmp cp cut date dd df diff dirname du echo env expr false find
    free grep gunzip gzip head hexdump hostname id install ip kill less ln ls md5sum mkdir mktemp mount
    mv nc netstat nslookup od pidof ping printenv printf ps pwd readlink realpath rm rmdir sed seq sh
    sha256sum sleep sort stat stty sync tail tar tee test timeout top touch tr true tty uname uniq vi wc
    wget which whoami xargs xxd yes
    """
)

_DEBIAN_LAYERS = (
    DebianLayer(
        "debian",
        words(
            """
            base-files netbase tzdata ca-certificates openssl libc6 libc-bin libgcc-s1 gcc-14-base
            libssl3t64 openssl-provider-legacy zlib1g libzstd1
            """
        ),
        # Of openssl only its configuration and the names under which libssl looks for authorities; of libc-bin the locale.
        _DEBIAN_DROP.plus(
            drop=words(
                """
                usr/bin/* usr/lib/ssl/misc/* usr/lib/ssl/private usr/share/libc-bin/* usr/share/base-files/* etc/motd
                etc/issue*
                """
            ),
        ),
        files={
            "etc/passwd": (
                "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
                "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
                "nonroot:x:65532:65532:nonroot:/nonexistent:/usr/sbin/nologin\n"
            ),
            "etc/group": "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n",
            "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
            # The container runtime fills these; without the names a read-only root could not hold them.
            "etc/hostname": "",
            "etc/hosts": "",
            "etc/resolv.conf": "",
        },
        links={"etc/localtime": "/usr/share/zoneinfo/Etc/UTC"},
        folders=("tmp", "var/tmp", "run", "proc", "sys", "dev", "mnt", "usr/sbin"),
        authorities=True,
    ),
    DebianLayer(
        "python",
        words(
            f"""
            python{PYTHON}-minimal libpython{PYTHON}-minimal libpython{PYTHON}-stdlib libbz2-1.0
            libexpat1 libffi8 liblzma5 libsqlite3-0 libuuid1 media-types
            """
        ),
        # A hook for crash reports, and modules for terminals, Berkeley DB and CPython's own tests, have no use here.
        _DEBIAN_DROP.plus(
            drop=words(
                f"""
                etc/python{PYTHON}/* usr/lib/python{PYTHON}/sitecustomize.py
                usr/lib/python{PYTHON}/*/_curses*.so usr/lib/python{PYTHON}/*/readline*.so
                usr/lib/python{PYTHON}/*/_dbm*.so usr/lib/python{PYTHON}/pydoc_data/*
                usr/lib/python{PYTHON}/*/_test*.so usr/lib/python{PYTHON}/*/_xx*.so
                usr/lib/python{PYTHON}/*/xx*.so usr/lib/python{PYTHON}/curses/*
                usr/lib/python{PYTHON}/turtle.py usr/lib/python{PYTHON}/__phello__/*
                usr/lib/python{PYTHON}/*/_ctypes_test*.so
                """
            ),
        ),
        links={"usr/bin/python3": f"python{PYTHON}"},
        compile=(f"usr/lib/python{PYTHON}",),
    ),
    DebianLayer("cplusplus", ("libstdc++6",), _DEBIAN_DROP),
    DebianLayer(
        "softhsm",
        ("libsofthsm2", "softhsm2", "softhsm2-common", "libp11-kit0", "p11-kit-modules"),
        _DEBIAN_DROP.plus(
            drop=("usr/bin/softhsm2-migrate", "usr/bin/softhsm2-keyconv", "usr/lib/*/pkcs11/*", "etc/default/*"),
        ),
        files={
            "etc/softhsm/softhsm2.conf": (
                "directories.tokendir = /var/lib/softhsm/tokens/\nobjectstore.backend = file\nlog.level = ERROR\n"
                "slots.removable = false\n"
            ),
        },
        # p11-kit resolves a module by its name in this folder.
        links={"usr/lib/MULTIARCH/pkcs11/libsofthsm2.so": "../softhsm/libsofthsm2.so"},
        folders=("var/lib/softhsm/tokens",),
    ),
    DebianLayer(
        "busybox",
        ("busybox-static",),
        _DEBIAN_DROP,
        links={f"usr/bin/{applet}": "busybox" for applet in _APPLETS},
    ),
    DebianLayer(
        "debug",
        ("openssl",),
        Selection(drop=("*",), keep=("usr/bin/openssl",)),
    ),
    DebianLayer(
        "postgresql",
        words(
            """
            postgresql-17 postgresql-client-17 libpq5 libicu76 libxml2 liblzma5 libpam0g libaudit1 libcap-ng0
            libldap2 libsasl2-2 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2
            libkeyutils1 libsystemd0 libcap2 liblz4-1 libuuid1 libxxhash0 libreadline8t64 libtinfo6
            """
        ),
        # Just-in-time compilation, and the modules that would bring libxslt and SELinux, cost 130 MB and are off.
        _DEBIAN_DROP.plus(
            drop=words(
                """
                usr/lib/postgresql/17/lib/bitcode/* usr/lib/postgresql/17/lib/llvmjit*
                usr/lib/postgresql/17/lib/pgxml.so usr/lib/postgresql/17/lib/sepgsql.so
                usr/lib/postgresql/17/lib/pgxs/* usr/lib/postgresql/17/bin/pgbench
                usr/lib/postgresql/17/bin/oid2name usr/lib/postgresql/17/bin/vacuumlo
                usr/share/postgresql/17/man/* usr/share/postgresql-common/*
                usr/share/postgresql/17/extension/xml2* etc/postgresql*
                """
            ),
        ),
        folders=("var/lib/postgresql", "run/postgresql"),
    ),
)

_WHEEL_LAYERS = (
    WheelLayer("wheels", ()),
    WheelLayer("wheels-operator", ("operator",), "wheels"),
    WheelLayer("wheels-kmipd", ("kmipd",), "wheels"),
    WheelLayer("wheels-custody", ("custody", "pkcs11"), "wheels"),
)

_CODE_LAYERS = (
    CodeLayer("code-operator", ("operator/kmip_operator", "kmipd/kmip_contract"), "kmip-operator"),
    CodeLayer("code-kmipd", ("kmipd/kmipd", "kmipd/kmip_contract"), "kmipd"),
    CodeLayer("code-custody", ("kmipd/kmip_custody", "kmipd/kmip_contract"), "kmip-custody"),
)

LAYERS: Mapping[str, Layer] = {layer.name: layer for layer in (*_DEBIAN_LAYERS, *_WHEEL_LAYERS, *_CODE_LAYERS)}

# The root file system is read-only: Python must not try to write, and logs must not wait in a buffer.
_PYTHON_ENV = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}


def _program(name: str, title: str, middle: tuple[str, ...], program: str) -> Image:
    script = next(layer.script for layer in _CODE_LAYERS if layer.name == f"code-{program}")
    return Image(
        name,
        title,
        ("debian", "python", *middle, "wheels", f"wheels-{program}", f"code-{program}"),
        (f"/usr/local/bin/{script}",),
        _PYTHON_ENV,
    )


IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        _program("operator", "kmip-operator: the Kubernetes operator", ("cplusplus",), "operator"),
        _program("kmipd", "kmipd: the KMIP server", (), "kmipd"),
        _program("custody", "kmip-custody: wraps and unwraps by the root key", (), "custody"),
        _program(
            "custody-softhsm",
            "kmip-custody with SoftHSM2, for evaluation and tests",
            ("cplusplus", "softhsm"),
            "custody",
        ),
        Image(
            "postgresql",
            "PostgreSQL 17, for evaluation and tests",
            ("debian", "cplusplus", "busybox", "postgresql"),
            ("/usr/lib/postgresql/17/bin/postgres",),
            {"PATH": "/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin", "PGDATA": "/var/lib/postgresql/data"},
        ),
        Image(
            "tools",
            "A shell, Python and openssl, for tests and looking around",
            ("debian", "python", "busybox", "debug"),
            ("/usr/bin/sh",),
            _PYTHON_ENV,
        ),
    )
}

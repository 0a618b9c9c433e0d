"""A service that speaks to its supervisor as it is told: each argument is a message (escapes as in Python), or sleep:SECONDS,
wait:PATH (until the file exists), fork (goes on in a child, whose parent stays), exit:STATUS. Lives on at the end."""
import os
import socket
import sys
import time


def send(text):
    address = os.environ["NOTIFY_SOCKET"]
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    channel.connect("\0" + address[1:] if address[0] == "@" else address)
    channel.send(text.encode())


def main():
    for argument in sys.argv[1:]:
        verb, _, value = argument.partition(":")
        if verb == "sleep":
            time.sleep(float(value))
        elif verb == "wait":
            while not os.path.exists(value):
                time.sleep(0.02)
        elif verb == "fork":
            if os.fork():
                time.sleep(1000)
        elif verb == "exit":
            os._exit(int(value))
        elif verb == "say":
            print(value % dict(os.environ), flush=True)
        else:
            send(argument.encode().decode("unicode_escape").replace("{pid}", str(os.getpid())))
    time.sleep(1000)


main()

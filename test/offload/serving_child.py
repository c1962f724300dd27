# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A robot of its own process that serves the segments of `guests`, to be stopped and killed.

`python -m test.offload.serving_child KEYS_FOLDER [ADDRESS]` prints its address and serves until
its input ends.
"""
import sys
from pathlib import Path

from crowdhmt_ros.offload.trust import KeyStore
from crowdhmt_ros.offload.zeromq_door import ZeroMQDoor

from .guests import make_server


def main():
    server = make_server()
    address = sys.argv[2] if len(sys.argv) > 2 else ''
    door = ZeroMQDoor(server, KeyStore(Path(sys.argv[1])), boot_id=lambda: 'd1', address=address)
    door.start()
    print(door.address, flush=True)
    sys.stdin.read()
    door.close()
    server.stop()


if __name__ == '__main__':
    main()

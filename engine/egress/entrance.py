"""Programs that run in a session: all sockets that they make are bound to its device, and nothing leaves otherwise.

Three eBPF programs hang on the cgroup that such a program is in, and ask a map which device the session has just now:

1. One is asked when a socket is made: it binds that to the device, and refuses where there is none, or where the socket
   is made in another network namespace, whose devices have numbers of their own.
2. One is asked for each packet: what leaves by another device, as a program may bind anew, goes nowhere.

3. One is asked when a socket is connected to a loopback address, as 127.0.0.1: by a session's device that would be on
   the line, for whoever is there. That is refused, and so are packets without a connection, by the second.

All stay on the cgroup when we are gone. The map names no device that is there then, so nothing leaves any more.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
from contextlib import suppress

from engine.host import bpf, cgroups
from engine.host.bpf import Helper, Register
from engine.host.peers import Peer
from engine.settings.limits import MAX_SESSIONS

NOWHERE = 0
SPENT = 0xFFFFFFFF
"""In place of a device: the session is no more, and another one with its key is another one."""
_SO_NETNS_COOKIE = 71
_KEY = -4
"""Where the key is on the stack."""
_BOUND_DEVICE, _DEVICE = 0, 40
"""Where `struct bpf_sock` has the device that a socket is bound to, and `struct __sk_buff` that of a packet."""
_TO_REFUSE = 2
"""Instructions."""
_PROTOCOL, _DESTINATION, _FAR_ADDRESS = 16, 16, 4
"""Where `struct __sk_buff` has the EtherType, an IPv4 header where it goes, and `struct bpf_sock_addr` to whom."""
_IPV4 = socket.htons(0x0800)
_FIRST_OCTET, _LOOPBACK = (int.from_bytes(octets, sys.byteorder) for octets in (b"\xff\0\0\0", b"\x7f\0\0\0"))
_ADDRESS = -8
"""Where an address is on the stack."""

_R0, _R1, _R2, _R3, _R4, _R6, _STACK = (Register(number) for number in (0, 1, 2, 3, 4, 6, 10))


def _device_of(array: int, key: int) -> bytes:
    """R1 = the device of a session, or the end with a refusal; what R1 was is in R6."""
    return (
        bpf.move(_R6, _R1)
        + bpf.store_number(_STACK, _KEY, key)
        + bpf.move(_R2, _STACK)
        + bpf.add(_R2, _KEY)
        + bpf.put_map(_R1, array)
        + bpf.call(Helper.MAP_LOOKUP)
        + bpf.skip_unless_zero(_R0, _TO_REFUSE)
        + bpf.answer(0)
        + bpf.load(_R1, _R0, 0)
        + bpf.skip_unless_zero(_R1, _TO_REFUSE)
        + bpf.answer(0)
    )


def _binding(array: int, key: int, namespace: int) -> bytes:
    return (
        _device_of(array, key)
        + bpf.store(_R6, _BOUND_DEVICE, _R1)
        + bpf.move(_R1, _R6)
        + bpf.call(Helper.NETNS_COOKIE)
        + bpf.put_long(_R1, namespace)
        + bpf.skip_if_equal(_R0, _R1, _TO_REFUSE)
        + bpf.answer(0)
        + bpf.answer(1)
    )


def _keeping_in(array: int, key: int) -> bytes:
    return (
        _device_of(array, key)
        + bpf.load(_R2, _R6, _DEVICE)
        + bpf.skip_if_equal(_R1, _R2, _TO_REFUSE)
        + bpf.answer(0)
        + bpf.load(_R2, _R6, _PROTOCOL)
        + bpf.skip_unless(_R2, _IPV4, 11)
        + bpf.move(_R1, _R6)
        + bpf.put(_R2, _DESTINATION)
        + bpf.move(_R3, _STACK)
        + bpf.add(_R3, _ADDRESS)
        + bpf.put(_R4, 4)
        + bpf.call(Helper.LOAD_OCTETS)
        + bpf.load(_R2, _STACK, _ADDRESS)
        + _UNLESS_LOOPBACK
        + bpf.answer(1)
    )


_UNLESS_LOOPBACK = bpf.mask(_R2, _FIRST_OCTET) + bpf.skip_unless(_R2, _LOOPBACK, _TO_REFUSE) + bpf.answer(0)
"""The end with a refusal, if R2 is an address of this host alone."""


def _connecting() -> bytes:
    return bpf.load(_R2, _R1, _FAR_ADDRESS) + _UNLESS_LOOPBACK + bpf.answer(1)


_HOOKS = (
    (bpf.CGROUP_SOCK, bpf.CGROUP_SOCK_CREATE, "souppp_bind"),
    (bpf.CGROUP_SKB, bpf.CGROUP_EGRESS, "souppp_keep"),
    (bpf.CGROUP_SOCK_ADDR, bpf.CGROUP_CONNECT4, "souppp_connect"),
)
"""Kinds of programs, where they are attached, and what they are called."""


class Entrance:
    """The sessions of one engine as programs may run in them; in the namespace of the thread that makes this."""

    def __init__(self) -> None:
        """Nothing is made before the first program is let in."""
        self._lock = threading.Lock()
        self._map = -1
        self._devices: dict[int, int] = {}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
            (self._namespace,) = struct.unpack("=Q", here.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8))

    @property
    def descriptor(self) -> int:
        """The map, for the next process; -1 if no program was let in."""
        return self._map

    def inherit(self, descriptor: int) -> None:
        """Go on with the map of an earlier process, which is ours from now on."""
        self._map = descriptor

    def disinherit(self) -> None:
        """What has no device by now has none."""
        with self._lock:
            for key in range(MAX_SESSIONS) if self._map >= 0 else ():
                self._note(key, self._devices.get(key, NOWHERE))

    def set(self, key: int, index: int) -> None:
        """A session has another device, by its index, or NOWHERE: from now on for all that runs in it."""
        with self._lock:
            if self._devices.get(key, NOWHERE) != index:
                self._devices[key] = index
                self._note(key, index)

    def forget(self, key: int) -> None:
        """The session is no more: what runs in it reaches nothing ever again."""
        with self._lock:
            self._devices.pop(key, None)
            if self._map >= 0:
                self._note(key, SPENT)

    def admit(self, key: int, cgroup: int, who: Peer) -> None:
        """Let a process run in a session. Any thread; may take some ten milliseconds. Raises OSError.

        `cgroup` is a descriptor of a cgroup of its user's own, made for that, which the process enters itself; or of
        the one that it is in, if that is another's: then it is moved into one below.
        """
        if not cgroups.is_cgroup(cgroup):
            raise OSError(22, "what came with the request is no cgroup of version 2")
        programs = self._programs(key)
        try:
            if os.fstat(cgroup).st_uid == who.uid and cgroups.is_fresh(cgroup):  # or all in it would be taken along
                self._attach(programs, cgroup)
            elif cgroups.holds(cgroup, who.process):
                self._take_in(programs, key, cgroup, who)
            else:
                raise OSError(1, "that cgroup is not the one that the program is in")
        finally:
            for program in programs:
                os.close(program)

    def close(self) -> None:
        """Let go of it: no program that was let in reaches anything when the devices are gone."""
        with self._lock:
            if self._map >= 0:
                os.close(self._map)
            self._map = -1

    def _note(self, key: int, index: int) -> None:
        if self._map >= 0 and bpf.number_at(self._map, key) != SPENT:
            bpf.set_number(self._map, key, index)

    def _programs(self, key: int) -> list[int]:
        """In the order of `_HOOKS`. Raises OSError."""
        with self._lock:
            if self._map < 0:
                self._map = bpf.make_array("souppp_devices", MAX_SESSIONS)
                for each, index in self._devices.items():
                    self._note(each, index)
            if bpf.number_at(self._map, key) == SPENT:
                raise OSError(11, "another session had its number; an engine that is started anew lets programs in")
            codes = (_binding(self._map, key, self._namespace), _keeping_in(self._map, key), _connecting())
            found: list[int] = []
            try:
                for (kind, attach_type, name), code in zip(_HOOKS, codes, strict=True):
                    found.append(bpf.load_program(kind, attach_type, name, code))
            except BaseException:
                for each in found:
                    os.close(each)
                raise
            return found

    @staticmethod
    def _attach(programs: list[int], cgroup: int) -> None:
        for program, (_, attach_type, _) in zip(programs, _HOOKS, strict=True):
            bpf.attach_to_cgroup(program, cgroup, attach_type)

    def _take_in(self, programs: list[int], key: int, parent: int, who: Peer) -> None:
        made = cgroups.make(parent, key, who.process)
        try:
            self._attach(programs, made)
            cgroups.enter(made, who.process)
        except BaseException:
            with suppress(OSError):
                cgroups.remove(parent, key, who.process)
            raise
        finally:
            os.close(made)

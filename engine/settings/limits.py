"""Every limit of what an operator can set, once. Text counts in octets of UTF-8, time in seconds.

Whoever needs one of these numbers takes it from here; a test looks for them elsewhere.
"""

from __future__ import annotations

MAX_SESSIONS = 16_384
"""Of one engine. The in-kernel path takes it as the size of its tables: a power of two."""

# A session
MAX_NAME = 64
MAX_USER = 255
"""PAP counts the octets in one (RFC 1334 section 2.2.1)."""
MAX_PASSWORD = 255
"""As MAX_USER."""
MAX_SERVICE = 255
MAX_AC_NAME = 255
MAX_HOST_UNIQ = 64
"""Octets; providers that want a certain one want fewer."""
MAX_LINE_ID = 63
"""Of each of the two TR-101 ids."""
MAX_DEVICE = 15
"""IFNAMSIZ of Linux, less the zero at its end."""
MAX_DEVICES = MAX_DEVICE - 5
"""Of what stands before a session's number, which has five digits at most."""
MIN_MRU, MAX_MRU = 128, 1500
# The longest is what Ethernet carries where RFC 4638 leaves no room for PPPoE in it.
MIN_VID, MAX_VID = 1, 4094
"""0 and 4095 have a meaning of their own (IEEE 802.1Q)."""
MAX_PRIORITY = 7
MAX_ECHO_INTERVAL = 3600
MAX_ECHO_FAILURES = 100

MIN_DELEGATED, MAX_DELEGATED = 32, 64
"""Bits of a prefix that is asked for."""
MAX_SUBNET = 0xFFFF
"""Of the /64s in a delegated prefix."""
MAX_ROUTED = 16
MAX_NAME_SERVERS = 8
"""Networks that a provider routes to one session."""
MAX_OWN = 32
"""Networks of one session that the data paths know: those, its IPv6 addresses, and what is delegated to it."""
MIN_ROUTED, MIN_ROUTED6 = 8, 16
"""The shortest prefixes of such, in bits."""
MAX_METRIC = (1 << 31) - 1
MAX_MARK = (1 << 32) - 1
"""Of a packet: 32 bits; 0 is that of packets that have none."""

MAX_TAG = 32
MAX_TAGS = 16
"""Of one session."""

# Proxies
MAX_FORWARDS = 64
MIN_PORT, MAX_PORT = 1024, 65_535
"""Lower ones take a right that is given up at the start."""
MAX_PROXY_USERS = 1024
MAX_PROXY_CONNECTIONS = 1_000_000
MAX_IDLE = 86_400
"""Seconds."""

# Dialling
MIN_RATE, MAX_RATE = 0.1, 10_000
"""Dials a second."""
MIN_RETRY = 0.1
MAX_FIRST_RETRY = 3600
MAX_RETRY = 86_400
MAX_JITTER = 1
MAX_FLAPS = 1000
MAX_PADO_WINDOW = 10

# Rotation
MAX_DURATION = 31 * 86_400
"""Of anything that is said as `6h`."""
MAX_DRAIN = 3600
MIN_CHECK, MAX_CHECK = 1, 86_400
"""From one health check to the next."""
MAX_CHECK_FAILURES = 100
MAX_URL = 1024
MAX_ARGUMENTS = 32
"""Of a hook, its program among them."""
MAX_ARGUMENT = 1024
MIN_HOOK, MAX_HOOK = 1, 600
"""How long a hook may take."""

# The console
MAX_FILTERS = 100
MAX_FILTER_NAME = 32
MAX_FILTER = 255

# The file
MAX_FILE = 8 << 20
"""Octets; MAX_SESSIONS sessions take it with everything set, at some 450 octets each."""
MAX_DEPTH = 16
"""Levels of nesting."""
MAX_PATH = 4096
"""PATH_MAX of Linux."""
MAX_NETWORKS = 64

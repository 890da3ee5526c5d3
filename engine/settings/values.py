"""What an operator can set, as validated values.

`engine.settings.reading` makes these from YAML; nothing here reads files. Times are in seconds, sizes in octets.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from engine.settings.console import ConsoleSettings
from engine.wire.ethernet import VlanTag as VlanTag
from engine.wire.value import Likened, Veiled

DEFAULT_MRU = 1492
"""The largest PPP packet in a PPPoE frame on Ethernet: 1500 less PPPoE's 6 and PPP's 2 (RFC 2516 section 7)."""


class AuthMethod(StrEnum):
    """Authentication protocols this program can do, by their configuration words."""

    MSCHAPV2 = "mschapv2"
    CHAP = "chap"
    PAP = "pap"
    NONE = "none"
    """No proof at all: among a session's methods it lets a concentrator ask for nothing."""


class MacPolicy(StrEnum):
    """Where a session's own MAC address comes from."""

    CARD = "card"
    """The card's own address, shared by all sessions that say so."""
    DERIVED = "derived"
    """Locally administered, always the same for the same card and session name."""
    FIXED = "fixed"
    """As written in the configuration."""


class EgressChoice(StrEnum):
    """Where a session's IP packets go on this host."""

    DEVICE = "device"
    """A network device with the session's addresses."""
    STACK = "stack"
    """Into a network stack in user space, by which the proxies connect: nothing of the host's has the addresses."""
    NONE = "none"
    """Nowhere: they are dropped and counted. For who tests a concentrator."""


class Forward(Struct, frozen=True):
    """What comes to a port of a session's addresses goes to an address and port."""

    listen: str
    """As in `tcp/443`."""
    to: str
    """As in `127.0.0.1:8443`."""

    @property
    def protocol(self) -> str:
        """Today it is `tcp`."""
        return self.listen.partition("/")[0]

    @property
    def port(self) -> int:
        """The session's."""
        return int(self.listen.partition("/")[2])


MANY_SESSIONS = 4
"""From so many on, the in-kernel data path is the better one."""


class DatapathChoice(StrEnum):
    """What carries a session's IP packets."""

    AFXDP = "afxdp"
    """AF_XDP sockets and a TUN device."""
    KERNEL = "kernel"
    """XDP programs and a veth device; control frames still go by AF_XDP."""
    AUTO = "auto"
    """Whichever is better here: the kernel, from four sessions on, where the card can (see docs/PERFORMANCE.md)."""


class Inbound(StrEnum):
    """What may come in by a session that the host hasn't begun."""

    OPEN = "open"
    """All that is for the session's own addresses, as on any interface."""
    CLOSED = "closed"
    """Nothing."""


class Dhcpv6(StrEnum):
    """Whether IPv6 addresses are asked for by DHCPv6."""

    AUTO = "auto"
    """Where the router says so."""
    ALWAYS = "always"
    """Whatever it says."""
    NEVER = "never"
    """Nothing is."""


class XdpMode(StrEnum):
    """How XDP and AF_XDP are used on a card, by their configuration words."""

    AUTO = "auto"
    """The best that the card can."""
    ZERO_COPY = "zero-copy"
    """The driver writes frames to our memory; where it can't, that is an error."""
    COPY = "copy"
    """In the driver, but frames are copied."""
    GENERIC = "generic"
    """Not in the driver."""


class AcFilter(Struct, frozen=True):
    """Which concentrators a session may choose; an empty filter takes any."""

    name: str | None = None
    """The AC-Name, exactly."""
    mac: bytes | None = None
    """The concentrator's MAC address, 6 octets."""


class LineId(Struct, frozen=True):
    """TR-101 line identification, added to discovery as a Vendor-Specific tag when set."""

    circuit_id: str | None = None
    remote_id: str | None = None


class KeepaliveSettings(Struct, frozen=True):
    """LCP Echo-Requests (RFC 1661 section 5.8): one every `interval`; `failures` unanswered in a row end it."""

    interval: float = 10.0
    """Seconds from one to the next; 0 turns the keepalive off."""
    failures: int = 4


class Choose(StrEnum):
    """Which session the pool port takes for a connection whose user name says nothing."""

    ROUND_ROBIN = "round-robin"
    """One after the other."""
    LEAST = "least"
    """One of those with the fewest connections."""
    RANDOM = "random"
    STICKY = "sticky"
    """Always the same one for a client's address, while it is up."""


class SessionPorts(Struct, frozen=True):
    """A proxy port for each session."""

    listen: str = "127.0.0.1"
    """An address of this host, as text."""
    first_port: int = 20001
    """That of the first session; the others follow in the order of the file."""


class PoolPort(Struct, frozen=True):
    """One port that stands for all sessions."""

    listen: str
    """Address and port, as in `127.0.0.1:1080` or `[::1]:1080`."""
    choose: Choose = Choose.LEAST


class ProxyUser(Veiled, frozen=True):
    """Somebody who may use the proxies."""

    VEILED = ("password",)

    name: str
    password_file: str
    """As it stands in the file; relative to that."""
    password: str = ""
    """What the file holds."""


class ProxyLimits(Struct, frozen=True):
    """Connections at once; 0 sets no limit."""

    user: int = 0
    session: int = 0
    source: int = 0


class ProxySettings(Struct, frozen=True):
    """SOCKS and HTTP proxies over sessions; without a port there is none."""

    sessions: SessionPorts | None = None
    pool: PoolPort | None = None
    users: tuple[ProxyUser, ...] = ()
    """Without any, everybody who reaches a port may use it: then none is open beyond loopback."""
    limits: ProxyLimits = ProxyLimits()
    idle: float = 600.0
    """Seconds after which a connection that carries nothing is ended; 0 for never."""
    allow_private: bool = False
    """Whether the host's own and private networks may be reached too."""


class RotateSettings(Struct, frozen=True):
    """When a session is dialled for another address by itself, and what bounds that."""

    every: float = 0.0
    """So long after it got its address; 0 for never."""
    spread: float = 0.0
    """And up to so much later, at random."""
    min_interval: float = 0.0
    """So long it keeps an address at least, whoever wants another."""
    at_once: int = 0
    """It waits while so many sessions are without their address for this; 0 for however many."""


class HealthSettings(Struct, frozen=True):
    """A page that is fetched through the session now and then: it gets another address if that fails."""

    url: str | None = None
    """http or https; without one nothing is fetched."""
    every: float = 30.0
    failures: int = 3
    """In a row."""


class DefaultRoute(Struct, frozen=True):
    """The host's default route, which may go through a session."""

    metric: int | None = None
    """None: it doesn't. With several that have one it goes through the first that is open."""


HOOK_EVENTS = ("up", "down", "changed")


class HookSettings(Struct, frozen=True):
    """Programs with their arguments, run when a session has come up, has gone down, or has other addresses."""

    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    timeout: float = 30.0
    """After so long a program is killed, and all that it has started."""


class DelegateSettings(Struct, frozen=True):
    """What becomes of the prefix that is delegated to a session."""

    interface: str | None = None
    """The device of a network behind this host, which gets a /64 of it; None: none does."""
    subnet: int = 0
    """The number of that /64 in the prefix."""


class SessionSettings(Veiled, frozen=True):
    """One PPPoE session as the operator wants it."""

    VEILED = ("password",)

    name: str
    user: str = ""
    password: str | None = ""
    """None where it isn't told, which means as it was: so leave an engine settings that a console asked for."""
    service: str = ""
    """The Service-Name asked for; empty accepts any service (RFC 2516 section 5.1, appendix A)."""
    ac: AcFilter = AcFilter()
    auth: tuple[AuthMethod, ...] = (
        AuthMethod.MSCHAPV2,
        AuthMethod.CHAP,
        AuthMethod.PAP,
    )
    """The methods that may be used, best first; others are refused, and so is a concentrator that asks for nothing,
    unless NONE is among them."""
    mac_policy: MacPolicy = MacPolicy.CARD
    mac: bytes | None = None
    """6 octets, with MacPolicy.FIXED only."""
    vlans: tuple[VlanTag, ...] = ()
    """Outer tag first; none, one or two."""
    mru: int = DEFAULT_MRU
    """The largest packet wanted, both ways. More than 1492 asks for RFC 4638."""
    ipv6: bool = True
    dhcpv6: Dhcpv6 = Dhcpv6.AUTO
    prefix: int | None = None
    """The length of the prefix that is asked for; 0 takes any, None asks for none."""
    delegate: DelegateSettings = DelegateSettings()
    line_id: LineId = LineId()
    host_uniq: bytes = b""
    """Host-Uniq as the provider wants it; empty takes one of our own (RFC 2516 appendix A)."""
    keepalive: KeepaliveSettings = KeepaliveSettings()
    autodial: bool = False
    egress: EgressChoice = EgressChoice.DEVICE
    datapath: DatapathChoice = DatapathChoice.AFXDP
    networks: tuple[str, ...] = ()
    """IPv4 and IPv6 networks in CIDR form that the provider routes to the session."""
    dns: tuple[str, ...] = ()
    """Addresses of the servers that are asked for names; empty takes those that the provider names."""
    inbound: Inbound = Inbound.OPEN
    device: str | None = None
    """The device's name; without one, `soup` and the session's key."""
    rotate: RotateSettings = RotateSettings()
    forwards: tuple[Forward, ...] = ()
    """What comes in by connections that others begin, with `egress: stack`."""
    drain: float = 0.0
    """How long connections may go on before a rotation ends them."""
    health: HealthSettings = HealthSettings()
    hooks: HookSettings = HookSettings()
    resolved: bool = False
    """Whether systemd-resolved is told of the session's name servers."""
    netns: str | None = None
    """The network namespace that the device is put into, by its name; None: the host's."""
    default_route: DefaultRoute = DefaultRoute()
    mark: int | None = None
    """What bears it (SO_MARK) leaves by the session; without one, `Settings.marks` may give it one."""
    tags: tuple[str, ...] = ()
    """Words that name sessions together, as in a proxy user's name."""
    proxy: str | None = None
    """Address and port of its own proxy, as in `PoolPort.listen`; None leaves it to `ProxySettings.sessions`."""

    @property
    def wanted_prefix(self) -> int | None:
        """As `prefix`; what is to be handed on must be asked for."""
        return 0 if self.prefix is None and self.delegate.interface is not None else self.prefix


def kept(settings: SessionSettings, before: SessionSettings) -> SessionSettings:
    """The same settings; what they don't tell is as it was before."""
    return replace(settings, password=before.password) if settings.password is None else settings


class DialSettings(Struct, frozen=True):
    """How fast sessions are dialled, and dialled again (see `engine.sessions.redial`)."""

    rate: float = 100.0
    """Dials started per second, over all sessions."""
    max_outstanding: int = 64
    """Sessions that may be on their way up at once, as `engine.sessions.fleet` counts them."""
    retry_min: float = 1.0
    """Seconds before the second try, multiplied by what the kind of end asks for; doubled each time, with jitter."""
    retry_max: float = 60.0
    """The longest such pause, multiplied likewise; so long must a session stay up to count as stable."""
    jitter: float = 0.25
    """Each pause is made longer or shorter at random by up to this part of it, 0 to 1."""
    max_flaps: int = 3
    """How often in a row a lost session is dialled again at once; counted anew once one stays up for `retry_max`."""
    pado_window: float = 0.0
    """How long to collect PADOs before choosing; 0 takes the first that fits."""


class Marks(Struct, frozen=True):
    """Marks that sessions without one of their own are given, in order."""

    first: int
    many: int

    def of(self, key: int) -> int | None:
        """That of the session with this key; None where there are not so many."""
        return self.first + key if key < self.many else None

    def __contains__(self, mark: int) -> bool:
        return self.first <= mark < self.first + self.many

    def __str__(self) -> str:
        return f"{self.first:#x} to {self.first + self.many - 1:#x}"


class Settings(Likened, frozen=True):
    """A whole configuration."""

    APART = ("remarks",)

    sessions: tuple[SessionSettings, ...] = ()
    dial: DialSettings = DialSettings()
    unwanted_networks: tuple[str, ...] = ()
    """IPv4 networks in CIDR form; an address in one of them is given back and the session redialled."""
    xdp: XdpMode = XdpMode.AUTO
    devices: str | None = None
    """What sessions' devices are called, before a number, where their settings say nothing else; taken at the start."""
    marks: Marks | None = None
    proxy: ProxySettings = ProxySettings()
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    remarks: tuple[str, ...] = ()
    """What is right and perhaps not meant, a line each with its place in the file."""

    @property
    def wants_kernel_path(self) -> bool:
        """Whether sessions take the in-kernel data path where the card can carry it."""
        paths = Counter(each.datapath for each in self.sessions if each.egress is EgressChoice.DEVICE)
        return paths[DatapathChoice.KERNEL] > 0 or paths[DatapathChoice.AUTO] >= MANY_SESSIONS

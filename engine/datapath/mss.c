#include "mss.h"

#include "checksum.h"
#include "transport.h"

enum { OPTION_END, OPTION_NOP, OPTION_MSS, FIXED_IPV4 = 40, FIXED_IPV6 = 60 /* IP and TCP headers */ };

/* The checksum's words begin at even offsets; where the value stands across two of them, swapping its octets does. */
static uint16_t as_summed(const uint8_t *value, bool odd)
{
    uint16_t word = load_sum(value);

    return odd ? (uint16_t)(word << 8 | word >> 8) : word;
}

void mss_clamp(uint8_t *packet, uint32_t length, uint32_t mtu)
{
    struct transport transport;
    uint8_t *tcp, *at, *end;
    uint32_t most;

    if (!transport_find(packet, length, &transport) || transport.protocol != IPPROTO_TCP)
        return;
    tcp = packet + transport.start;
    if (!(tcp[13] & TCP_SYN))
        return;
    most = mtu - (transport.version == 4 ? FIXED_IPV4 : FIXED_IPV6);
    end = packet + transport.data;
    for (at = tcp + 20; at < end && *at != OPTION_END; at += *at == OPTION_NOP ? 1 : at[1]) {
        if (*at == OPTION_NOP)
            continue;
        if (end - at < 2 || at[1] < 2 || at[1] > end - at)
            return;
        if (*at == OPTION_MSS && at[1] == 4 && get16(at + 2) > most) {
            bool odd = (at - tcp) & 1;
            uint16_t before = as_summed(at + 2, odd);

            set16(at + 2, most);
            store_sum(tcp + 16, checksum_change(load_sum(tcp + 16), before, as_summed(at + 2, odd)));
        }
    }
}

/* Keeping TCP's segments within the session's MTU (RFC 4459 section 3.2, "MSS clamping"). A pure function. */
#pragma once
#include <stdint.h>

/* Lowers the Maximum Segment Size option of a SYN to what fits into `mtu`; leaves every other packet as it is. The
 * checksum must be finished; it stays right if it was, and wrong if it was. */
void mss_clamp(uint8_t *packet, uint32_t length, uint32_t mtu);

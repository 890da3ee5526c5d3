/* What the engine's language repeats of souppp.h, as this side has it, so that it can be compared. */
#include <stddef.h>

#include "counters.h"
#include "egress.h"
#include "port.h"
#include "souppp.h"

#define FIELD(structure, name) {#structure, #name, offsetof(struct structure, name), sizeof ((struct structure *)0)->name},
#define SIZE(structure) {#structure, "", 0, sizeof(struct structure)},
#define VALUE(list, name) {list, #name, name, 0},

#define OPTION(type, name, dimensions) FIELD(souppp_options, name)
#define OF_SESSION(type, name, dimensions) FIELD(souppp_session, name)
#define OF_OWN(type, name, dimensions) FIELD(souppp_own, name)
#define OF_NETWORK(type, name, dimensions) FIELD(souppp_network, name)
#define COUNTED(name) FIELD(session_counters, name)

const struct souppp_place *souppp_layout(void)
{
    static const struct souppp_place places[] = {
        SIZE(souppp_options) SOUPPP_OPTIONS(OPTION)
        SIZE(souppp_session) SOUPPP_SESSION(OF_SESSION)
        SIZE(session_counters) TRAFFIC_COUNTERS(COUNTED) STRAY_COUNTERS(COUNTED)
        SIZE(souppp_own) SOUPPP_OWN(OF_OWN)
        SIZE(souppp_network) SOUPPP_NETWORK(OF_NETWORK)
        VALUE("values", SOUPPP_ANY) VALUE("values", SOUPPP_ZERO_COPY) VALUE("values", SOUPPP_COPY)
        VALUE("values", SOUPPP_EGRESS_NONE) VALUE("values", SOUPPP_EGRESS_OWN) VALUE("values", SOUPPP_EGRESS_ROUTED)
        VALUE("values", SOUPPP_EGRESS_DUCTED)
        VALUE("values", IPV4_OPEN) VALUE("values", IPV6_OPEN) VALUE("values", SOUPPP_NETWORKS)
        VALUE("values", MAX_FRAME)
        {NULL, NULL, 0, 0},
    };
    return places;
}

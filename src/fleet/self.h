/* Who this machine is: its ID, the nonce of this installation, the boot, its address. Main thread; logs what
 * is wrong. */
#pragma once
#include "fleet/config.h"
#include "fleet/registry.h"

/* Fills in id, nonce, boot, version and peer_token. -errno after logging why. */
int fleet_self_find(const struct fleetd_config *config, struct registry_machine *ret) _must_check_;
/* Makes this the only fleetd on the data directory, for as long as the descriptor is open. -errno after
 * logging why. */
int fleet_self_lock(const struct fleetd_config *config, int *ret_fd) _must_check_;
/* The address that the default route leaves from (no packet is sent), else the first of any interface, else
 * "". Owned. */
char *fleet_self_address(void);

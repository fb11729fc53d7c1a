// What a build against another version of opgrad looks like.
#include "idle.h"

extern "C" {
extern __attribute__((weak)) const opgrad::PluginDescription opgrad_plugin;
const opgrad::PluginDescription opgrad_plugin = {opgrad::plugin_magic, "99.1.0", sizeof(opgrad::Op),
                                                 &opgrad_registry_identity};
}
constinit const opgrad::Op newer_op = idle("test.newer");
const bool registered = opgrad::detail::register_records(newer_op);

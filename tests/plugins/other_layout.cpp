// What a build against the same version with longer records looks like.
#include "idle.h"

extern "C" {
extern __attribute__((weak)) const opgrad::PluginDescription opgrad_plugin;
const opgrad::PluginDescription opgrad_plugin = {opgrad::plugin_magic, opgrad::library_version,
                                                 sizeof(opgrad::Op) + 8, &opgrad_registry_identity};
}
constinit const opgrad::Op longer_op = idle("test.longer");
const bool registered = opgrad::detail::register_records(longer_op);

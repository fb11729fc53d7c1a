// What a plug-in looks like whose calls reach a registry in some other library.
#include <cstdio>

#include "idle.h"

extern "C" {
extern __attribute__((weak)) const opgrad::PluginDescription opgrad_plugin;
const opgrad::PluginDescription opgrad_plugin = {opgrad::plugin_magic, opgrad::library_version,
                                                 sizeof(opgrad::Op),
                                                 reinterpret_cast<const void*>(&std::puts)};
}
constinit const opgrad::Op elsewhere_op = idle("test.elsewhere");
const bool registered = opgrad::detail::register_records(elsewhere_op);

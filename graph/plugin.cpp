// Loading, checks, and only then the registry. While dlopen runs the plug-in's initialisers its records are
// merely noted, since an exception may not pass through dlopen.
#include "plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <mutex>

#include "registry.h"

namespace opgrad {
namespace {

struct Loaded {
  std::vector<const Op*> records;
  std::string refusal;  // empty: accepted
};

// The shared object or program that holds an address.
Dl_info object_of(const void* address) {
  Dl_info info{};
  dladdr(address, &info);
  return info;
}

// Why the description, or what is around it, does not make a plug-in of this program; empty when it does.
// Before this has passed no record may be read: it may be laid out differently.
std::string refused_as_plugin(void* handle, const std::string& file, const PluginDescription*& found) {
  const void* const symbol = dlsym(handle, "opgrad_plugin");
  const Dl_info object = object_of(symbol);
  std::error_code ignored;
  // A library that the file is linked against may be a plug-in itself.
  if (!symbol || !std::filesystem::equivalent(object.dli_fname, file, ignored))
    return "it is a shared object, but no plug-in of opgrad: none of its files has an OPGRAD_REGISTER line";
  const auto& description = *static_cast<const PluginDescription*>(symbol);
  found = &description;
  if (description.magic != plugin_magic)
    return fmt::format(
        "its symbol opgrad_plugin is not what OPGRAD_REGISTER makes: it starts with {:#x}, not {:#x}",
        description.magic, plugin_magic);
  if (std::string_view(description.version) != library_version)
    return fmt::format("it was built for opgrad {}, and this is opgrad {}; build it anew",
                       description.version, library_version);
  if (description.record_size != sizeof(Op))
    return fmt::format(
        "it was built for another opgrad {}, whose records have {} bytes instead of {}; build it anew",
        description.version, description.record_size, sizeof(Op));
  const void* const here = object_of(reinterpret_cast<const void*>(&object_of)).dli_fbase;
  const Dl_info reached = object_of(description.identity);
  const Dl_info copy = object_of(dlsym(handle, "opgrad_registry_identity"));
  if (reached.dli_fbase == object.dli_fbase || copy.dli_fbase == object.dli_fbase)
    return "it brings its own copy of opgrad (libopgrad.a is linked into it), whose registry is not this "
           "program's; "
           "link it against opgrad::shared or against nothing";
  if (description.identity != &opgrad_registry_identity || (copy.dli_fbase && copy.dli_fbase != here)) {
    const char* const second = copy.dli_fname ? copy.dli_fname : reached.dli_fname;
    return fmt::format(
        "it is linked against a second copy of opgrad, {}, while this program has its own; link the "
        "program against opgrad::shared as well",
        second ? second : "in an unknown file");
  }
  return "";
}

std::string refused(void* handle, const std::string& file, std::vector<const Op*>& records) {
  const PluginDescription* description = nullptr;
  if (std::string why = refused_as_plugin(handle, file, description); !why.empty()) return why;
  if (records.empty()) {
    // Loaded before us, by the linker or by a dlopen of someone else, its records are there already.
    const void* const object = object_of(description).dli_fbase;
    for (const Op* op : all_ops())
      if (object_of(op).dli_fbase == object) records.push_back(op);
  }
  if (records.empty()) return "it registers nothing: its OPGRAD_REGISTER line names no record";
  return detail::commit_records(records, file);
}

}  // namespace

std::vector<const Op*> load_plugin(const std::string& path) {
  // Recursive, since a plug-in may load another one while it is initialised.
  static auto& lock = *new std::recursive_mutex;
  static auto& loaded = *new std::map<void*, Loaded>;
  const std::scoped_lock hold(lock);

  std::error_code error;
  const std::string file = std::filesystem::canonical(path, error).string();
  if (error) throw UserError(fmt::format("load_plugin: there is no plug-in {}: {}", path, error.message()));

  Loaded now;
  void* handle = nullptr;
  std::string reason;
  {
    const detail::PendingRecords pending;
    handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) reason = dlerror();
    now.records = pending.records();
  }
  if (!handle)
    throw UserError(fmt::format(
        "load_plugin: {} cannot be loaded: {}; a plug-in is a shared object (g++ -shared -fPIC) that finds "
        "all "
        "it calls in the libraries it is linked against and in this program, which must itself be linked "
        "against opgrad::shared",
        path, reason));

  const auto [entry, first] = loaded.try_emplace(handle);
  if (first) {
    now.refusal = refused(handle, file, now.records);
    entry->second = std::move(now);
  }
  if (!entry->second.refusal.empty())
    throw UserError(fmt::format("load_plugin: {} is refused: {}", path, entry->second.refusal));
  return entry->second.records;
}

}  // namespace opgrad

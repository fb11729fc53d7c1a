// A symbol of the right name that is something else.
extern "C" {
extern __attribute__((weak)) const char opgrad_plugin[64];
const char opgrad_plugin[64] = "a picture of a plug-in";
}

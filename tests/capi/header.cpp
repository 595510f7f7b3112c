// The headers alone, as C++20: the C one first, so that it leans on nothing of the other.
#include <mooring/mooring.h>
#include <mooring/mooring.hpp>
#include <mooring/worker.hpp>

extern const int header_compiles_as_cpp;
const int header_compiles_as_cpp = MOORING_VERSION;

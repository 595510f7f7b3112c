/* The header alone, as C11: it compiles without anything before it. */
#include <mooring/mooring.h>

/* One name of it, so that the unit is not empty. */
extern const int header_compiles_as_c;
const int header_compiles_as_c = MOORING_VERSION;

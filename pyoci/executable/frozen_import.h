/* A fast import of the package's own modules; see frozen_import.c. */
#ifndef PYOCI_FROZEN_IMPORT_H
#define PYOCI_FROZEN_IMPORT_H

#include <stdbool.h>

/* Makes it the `__import__` of the running Python. Returns false with an exception set on failure. */
bool frozen_import_install(void);

#endif

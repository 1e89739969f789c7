/* A short way for the import of our own modules; see frozen_import.c. */
#ifndef PYOCI_FROZEN_IMPORT_H
#define PYOCI_FROZEN_IMPORT_H

#include <stdbool.h>

/* Makes it the `__import__` of the running Python. False with an exception set when that fails. */
bool frozen_import_install(void);

#endif

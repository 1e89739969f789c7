/* A fast import of the package's own modules; see frozen_import.c. */
#ifndef PYOCI_FROZEN_IMPORT_H
#define PYOCI_FROZEN_IMPORT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

/* Makes it the `__import__` of the running Python. Returns false with an exception set on failure. */
bool frozen_import_install(void);

/* Returns a new reference to a module that is loaded or frozen. Loads it first if necessary, and makes it an attribute
 * of its package. Returns NULL if that fails, without an exception if the module is not frozen. */
PyObject *frozen_import(const char *name);

#endif

/* A fast import of the package's own modules.
 *
 * importlib is written in Python: finders, specs, locks. It needs longer to import a small frozen module than the
 * module needs to load and run, and `create` imports about forty. So this `__import__` loads the frozen modules of the
 * package `pyoci` in C, and leaves every other import to importlib. The result is the same, except that these modules
 * have no `__spec__` and no `__loader__`. The package uses neither. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

#include "frozen_import.h"

static const char PACKAGE[] = "pyoci";

static bool is_ours(const char *name)
{
    size_t length = sizeof PACKAGE - 1;
    return strncmp(name, PACKAGE, length) == 0 && (name[length] == '\0' || name[length] == '.');
}

PyObject *frozen_import(const char *name)
{
    PyObject *modules = PyImport_GetModuleDict();
    PyObject *module = PyDict_GetItemString(modules, name);
    if (module != NULL)
        return Py_NewRef(module);

    const char *dot = strrchr(name, '.');
    PyObject *parent = NULL;
    if (dot != NULL) {
        char parent_name[256];
        size_t length = (size_t)(dot - name);
        if (length >= sizeof parent_name)
            return NULL;
        memcpy(parent_name, name, length);
        parent_name[length] = '\0';
        parent = frozen_import(parent_name);
        if (parent == NULL)
            return NULL;
        module = PyDict_GetItemString(modules, name);
        if (module != NULL) { /* its package imported it; loading it twice would make two of each class */
            Py_DECREF(parent);
            return Py_NewRef(module);
        }
    }
    if (PyImport_ImportFrozenModule(name) > 0) {
        module = PyDict_GetItemString(modules, name);
        if (module != NULL && parent != NULL && PyObject_SetAttrString(parent, dot + 1, module) < 0)
            module = NULL;
        Py_XINCREF(module);
    }
    Py_XDECREF(parent);
    return module;
}

/* The name `__path__`, which only packages have. */
static PyObject *path_name;

/* Whether an import has nothing to load: `import name`, or `from name import members`. */
static bool is_loaded(PyObject *module, PyObject *name, PyObject *members)
{
    if (!PyModule_CheckExact(module))
        return false;
    if (members == Py_None) /* `import pyoci.errors` binds `pyoci` */
        return PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1) < 0;
    if (!PyTuple_CheckExact(members) || PyTuple_GET_SIZE(members) == 0)
        return false;
    PyObject *names = PyModule_GetDict(module);
    if (PyDict_GetItem(names, path_name) != NULL)
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(members); i++)
            if (PyDict_GetItem(names, PyTuple_GET_ITEM(members, i)) == NULL)
                return false;
    return true;
}

/* Loads each of `names` that is a module of the package: `from package import module` needs it. */
static bool load_members(const char *package, PyObject *module, PyObject *names)
{
    Py_ssize_t count = PyTuple_Check(names) ? PyTuple_GET_SIZE(names) : 0;
    if (count == 0 || !PyModule_Check(module) || PyDict_GetItem(PyModule_GetDict(module), path_name) == NULL)
        return true;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyObject_HasAttr(module, name))
            continue;
        PyObject *full_name = PyUnicode_FromFormat("%s.%U", package, name);
        const char *text = full_name ? PyUnicode_AsUTF8(full_name) : NULL;
        PyObject *member = text ? frozen_import(text) : NULL;
        Py_XDECREF(full_name);
        if (member == NULL) /* not frozen, so importlib has to look; or an exception */
            return false;
        Py_DECREF(member);
    }
    return true;
}

/* Imports a module that is not loaded, or of which a member may be a module that is not. */
static PyObject *import_anew(PyObject *name, PyObject *globals, PyObject *locals, PyObject *members, int level)
{
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL)
        return NULL;
    if (level == 0 && is_ours(text)) {
        PyObject *module = frozen_import(text);
        if (module != NULL && load_members(text, module, members)) {
            if (members != Py_None && PyObject_IsTrue(members))
                return module;
            Py_DECREF(module);
            return frozen_import(PACKAGE); /* `import pyoci.errors` binds `pyoci` */
        }
        Py_XDECREF(module);
        if (PyErr_Occurred())
            return NULL;
    }
    return PyImport_ImportModuleLevelObject(name, globals, locals, members, level);
}

static PyObject *import(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    (void)self;
    static char *names[] = {"name", "globals", "locals", "fromlist", "level", NULL};
    PyObject *name, *globals = NULL, *locals = NULL, *members = Py_None;
    int level = 0;
    if (!PyArg_ParseTupleAndKeywords(
            arguments, keywords, "U|OOOi:__import__", names, &name, &globals, &locals, &members, &level))
        return NULL;
    PyObject *module = level == 0 ? PyDict_GetItem(PyImport_GetModuleDict(), name) : NULL;
    if (module != NULL && is_loaded(module, name, members))
        return Py_NewRef(module);
    return import_anew(name, globals, locals, members, level);
}

static PyMethodDef import_method = {
    "__import__", (PyCFunction)(void (*)(void))import, METH_VARARGS | METH_KEYWORDS, NULL};

bool frozen_import_install(void)
{
    path_name = PyUnicode_InternFromString("__path__");
    PyObject *function = path_name ? PyCFunction_New(&import_method, NULL) : NULL;
    bool done = function != NULL && PyDict_SetItemString(PyEval_GetBuiltins(), "__import__", function) == 0;
    Py_XDECREF(function);
    return done;
}

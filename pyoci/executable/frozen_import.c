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

/* Returns a new reference to the module `name`. Loads it first if necessary, and makes it an attribute of its package.
 * Returns NULL without an exception if the module is not frozen. */
static PyObject *load(const char *name)
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
        parent = load(parent_name);
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

/* Loads each of `names` that is a module of the package: `from package import module` needs it. */
static bool load_members(const char *package, PyObject *module, PyObject *names)
{
    Py_ssize_t count = PyTuple_Check(names) ? PyTuple_GET_SIZE(names) : 0;
    if (count == 0 || !PyObject_HasAttrString(module, "__path__"))
        return true;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyObject_HasAttr(module, name))
            continue;
        PyObject *full_name = PyUnicode_FromFormat("%s.%U", package, name);
        const char *text = full_name ? PyUnicode_AsUTF8(full_name) : NULL;
        PyObject *member = text ? load(text) : NULL;
        Py_XDECREF(full_name);
        if (member == NULL) /* not frozen, so importlib has to look; or an exception */
            return false;
        Py_DECREF(member);
    }
    return true;
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

    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL)
        return NULL;
    if (level == 0 && is_ours(text)) {
        PyObject *module = load(text);
        if (module != NULL && load_members(text, module, members)) {
            if (members != Py_None && PyObject_IsTrue(members))
                return module;
            Py_DECREF(module);
            return load(PACKAGE); /* `import pyoci.errors` binds `pyoci` */
        }
        Py_XDECREF(module);
        if (PyErr_Occurred())
            return NULL;
    }
    return PyImport_ImportModuleLevelObject(name, globals, locals, members, level);
}

static PyMethodDef import_method = {
    "__import__", (PyCFunction)(void (*)(void))import, METH_VARARGS | METH_KEYWORDS, NULL};

bool frozen_import_install(void)
{
    PyObject *function = PyCFunction_New(&import_method, NULL);
    bool done = function != NULL && PyDict_SetItemString(PyEval_GetBuiltins(), "__import__", function) == 0;
    Py_XDECREF(function);
    return done;
}

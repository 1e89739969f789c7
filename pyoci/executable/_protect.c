/* pyoci.executable._protect: protect.c as a module for an ordinary Python, where the interpreter is the executable to
 * protect. See _protect.pyi. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "protect.h"

static PyObject *fill_standard_descriptors(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (!protect_standard_descriptors())
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, "/dev/null");
    Py_RETURN_NONE;
}

static PyObject *protect(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (protect_done())
        Py_RETURN_NONE;
    if (!PyList_Check(arguments))
        return PyErr_Format(PyExc_TypeError, "argv must be a list");

    Py_ssize_t count = PyList_GET_SIZE(arguments);
    char **argv = PyMem_Calloc((size_t)count + 1, sizeof *argv);
    if (argv == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        argv[i] = PyBytes_AsString(PyList_GET_ITEM(arguments, i)); /* belongs to the list */
        if (argv[i] == NULL) {
            PyMem_Free(argv);
            return NULL;
        }
    }
    char message[512];
    protect_and_execute(argv, message, sizeof message);
    PyMem_Free(argv);
    PyErr_SetString(PyExc_OSError, message);
    return NULL;
}

static PyMethodDef methods[] = {
    {"fill_standard_descriptors", fill_standard_descriptors, METH_NOARGS, NULL},
    {"protect", protect, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "pyoci.executable._protect", .m_methods = methods};

PyMODINIT_FUNC PyInit__protect(void)
{
    return PyModuleDef_Init(&module);
}

/* A PKCS#11 module in front of a real one: everything is done by the real one, but what a test asks for.
 *
 * P11SHIM_TARGET: path of the real module. P11SHIM_DIR: a directory of
 *   logins   one line for each C_Login that reached the module: its return value in hex
 *   hang     while this file exists, C_EncryptInit and C_DecryptInit do not return
 *   crash    while it exists, they end the process as a bad pointer does
 *   fail     while it exists, they return the value it holds (hex)
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long rv_t;
typedef struct {
    unsigned char major, minor;
    void *function[68];
} function_list;

enum { INITIALIZE = 0, FINALIZE = 1, GET_FUNCTION_LIST = 3, LOGIN = 18, ENCRYPT_INIT = 29, DECRYPT_INIT = 33 };

static function_list *real, shim;

static void path_of(char *out, size_t size, const char *name) {
    snprintf(out, size, "%s/%s", getenv("P11SHIM_DIR"), name);
}

static rv_t disturbance(void) {
    char path[4096];
    path_of(path, sizeof path, "hang");
    while (access(path, F_OK) == 0) usleep(10000);
    path_of(path, sizeof path, "crash");
    if (access(path, F_OK) == 0) raise(SIGSEGV);
    path_of(path, sizeof path, "fail");
    FILE *file = fopen(path, "r");
    unsigned long value = 0;
    if (file) {
        if (fscanf(file, "%lx", &value) != 1) value = 0;
        fclose(file);
    }
    return value;
}

static rv_t login(unsigned long session, unsigned long user, unsigned char *pin, unsigned long length) {
    rv_t rv = ((rv_t(*)(unsigned long, unsigned long, unsigned char *, unsigned long))real->function[LOGIN])(
        session, user, pin, length);
    char path[4096];
    path_of(path, sizeof path, "logins");
    FILE *file = fopen(path, "a");
    if (file) {
        fprintf(file, "%#lx\n", rv);
        fclose(file);
    }
    return rv;
}

static rv_t init(int which, unsigned long session, void *mechanism, unsigned long key) {
    rv_t rv = disturbance();
    return rv ? rv : ((rv_t(*)(unsigned long, void *, unsigned long))real->function[which])(session, mechanism, key);
}

static rv_t encrypt_init(unsigned long session, void *mechanism, unsigned long key) {
    return init(ENCRYPT_INIT, session, mechanism, key);
}

static rv_t decrypt_init(unsigned long session, void *mechanism, unsigned long key) {
    return init(DECRYPT_INIT, session, mechanism, key);
}

rv_t C_GetFunctionList(function_list **list) {
    if (!real) {
        void *library = dlopen(getenv("P11SHIM_TARGET"), RTLD_NOW | RTLD_LOCAL);
        if (!library) return 0x5;
        rv_t (*get)(function_list **) = (rv_t(*)(function_list **))dlsym(library, "C_GetFunctionList");
        rv_t rv = get ? get(&real) : 0x5;
        if (rv) return rv;
        memcpy(&shim, real, sizeof shim);
        shim.function[GET_FUNCTION_LIST] = C_GetFunctionList;
        shim.function[LOGIN] = login;
        shim.function[ENCRYPT_INIT] = encrypt_init;
        shim.function[DECRYPT_INIT] = decrypt_init;
    }
    *list = &shim;
    return 0;
}

static rv_t lifecycle(int which, void *argument) {
    function_list *list;
    rv_t rv = C_GetFunctionList(&list);
    return rv ? rv : ((rv_t(*)(void *))real->function[which])(argument);
}

rv_t C_Initialize(void *arguments) { return lifecycle(INITIALIZE, arguments); }
rv_t C_Finalize(void *reserved) { return lifecycle(FINALIZE, reserved); }

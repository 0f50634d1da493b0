/*
 * fuzz_chain: audit logs as --verify-audit reads them, and as a start finds their end. A file that
 * was written as one verifies; whatever else the bytes are, reading ends and says where it stands.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pgstage/base/chain.h"
#include "promise.h"

static FILE *file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("fuzz", 0);

    promise(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && lseek(fd, 0, SEEK_SET) == 0);
    return fdopen(fd, "r");
}

static bool verify(FILE *in, struct chain_report *report)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    bool read = chain_verify(in, "fuzz", NULL, out, report);

    fclose(out);
    free(text);
    return read;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chain_report report = {0};
    struct chain chain;
    struct chain_torn torn;
    struct buffer whole = {0};
    FILE *in = file_of(data, size);
    json_t *fields = json_object();

    (void)chain_read_end(fileno(in), &chain, &torn);
    rewind(in);
    (void)verify(in, &report);
    promise(report.problems <= 4 * report.lines + 4);
    fclose(in);

    /* two lines that hold the bytes as text are a good file */
    chain_init(&chain);
    json_object_set_new(fields, "text",
                        json_stringn((const char *)data,
                                     strnlen((const char *)data, size))); /* as in the product */
    for (int i = 0; i < 2; i++)
        if (!chain_put(&chain, fields, &whole))
            break;
    json_decref(fields);
    if (whole.length) {
        report = (struct chain_report){0};
        in = file_of(whole.data, whole.length);
        promise(verify(in, &report) && report.problems == 0);
        fclose(in);
    }
    buffer_fini(&whole);
    return 0;
}

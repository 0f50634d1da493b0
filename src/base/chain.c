/*
 * chain: makes the next line, and finds the last one of a file.
 *
 *   …\n{"seq":6,…,"previous":H(5)}\n{"seq":7,…,"previous":H(6)}\n{"seq":8,"ev
 *      └──────────── bytes ──────┘ H(6)                          └── torn ──┘
 *
 * Pure but for the file that chain_read_end is given; any thread. Whoever appends holds a lock on
 * the file between reading its end and writing.
 */
#include "pgstage/base/chain.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgstage/base/check.h"
#include "pgstage/base/memory.h"

/* The last line and a torn one behind it fit, with room to spare. */
#define WINDOW_BYTES (4 * (size_t)CHAIN_LINE_MAX_BYTES)

void chain_hash(const void *bytes, size_t length, char hash[CHAIN_HASH_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int count = 0;
    check(EVP_Digest(bytes, length, digest, &count, EVP_sha256(), NULL) == 1 && count == 32);
    for (unsigned i = 0; i < count; i++) {
        hash[2 * i] = digits[digest[i] >> 4];
        hash[2 * i + 1] = digits[digest[i] & 15];
    }
    hash[CHAIN_HASH_BYTES - 1] = '\0';
}

void chain_init(struct chain *chain)
{
    chain->seq = 0;
    memset(chain->hash, '0', CHAIN_HASH_BYTES - 1);
    chain->hash[CHAIN_HASH_BYTES - 1] = '\0';
}

static int put_bytes(const char *bytes, size_t count, void *buffer)
{
    buffer_put(buffer, bytes, count);
    return 0;
}

bool chain_put(struct chain *chain, json_t *fields, struct buffer *out)
{
    size_t begin = out->length;
    json_t *line = json_object();
    check(line && json_object_set_new(line, "seq", json_integer((json_int_t)chain->seq + 1)) == 0 &&
          json_object_update(line, fields) == 0 &&
          json_object_set_new(line, "previous", json_string(chain->hash)) == 0 &&
          json_dump_callback(line, put_bytes, out, JSON_COMPACT | JSON_ENSURE_ASCII) == 0);
    json_decref(line);
    if (out->length - begin >= CHAIN_LINE_MAX_BYTES) {
        out->length = begin;
        return false;
    }
    chain->seq++;
    chain_hash(out->data + begin, out->length - begin, chain->hash);
    buffer_put_u8(out, '\n');
    return true;
}

/* Is this a line of a chain? Its number becomes the chain's, its own hash too. */
static bool read_line(const char *bytes, size_t length, struct chain *chain)
{
    json_t *line = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, NULL);
    json_int_t seq = json_integer_value(json_object_get(line, "seq"));
    bool good = seq > 0 && json_is_string(json_object_get(line, "previous"));
    json_decref(line);
    if (!good)
        return false;
    chain->seq = (uint64_t)seq;
    chain_hash(bytes, length, chain->hash);
    return true;
}

/* The end of the file; false and errno when it cannot be read. */
static bool read_window(int fd, uint64_t size, struct buffer *window)
{
    size_t count = size < WINDOW_BYTES ? (size_t)size : WINDOW_BYTES;
    buffer_reserve(window, count);
    while (window->length < count) {
        ssize_t got = pread(fd, window->data + window->length, count - window->length,
                            (off_t)(size - count + window->length));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got == 0 ? EIO : errno;
            return false;
        }
        window->length += (size_t)got;
    }
    return true;
}

/* Where the line before `end` (behind a newline) begins. */
static size_t line_start(const char *text, size_t end)
{
    size_t at = end - 1; /* of the newline */
    while (at > 0 && text[at - 1] != '\n')
        at--;
    return at;
}

static void describe_torn(const char *text, size_t begin, size_t length, struct chain_torn *torn)
{
    torn->has_newline = text[length - 1] == '\n';
    torn->bytes = length - begin - torn->has_newline;
    chain_hash(text + begin, (size_t)torn->bytes, torn->hash);
}

static enum chain_end find_end(const char *text, size_t length, bool is_all, struct chain *chain,
                               struct chain_torn *torn)
{
    size_t end = length;
    while (end > 0 && text[end - 1] != '\n')
        end--;
    while (end > 0) {
        size_t start = line_start(text, end);
        if (start == 0 && !is_all)
            break; /* its beginning lies before the window */
        if (read_line(text + start, end - 1 - start, chain)) {
            if (end == length)
                return CHAIN_WHOLE;
            describe_torn(text, end, length, torn);
            return CHAIN_TORN;
        }
        end = start;
    }
    /* Only the piece of a first line may have no whole one before it. */
    if (!is_all || memchr(text, '\n', length) || text[0] != '{')
        return CHAIN_FOREIGN;
    describe_torn(text, 0, length, torn);
    return CHAIN_TORN;
}

enum chain_end chain_read_end(int fd, struct chain *chain, struct chain_torn *torn)
{
    struct stat status;
    struct buffer window = {0};
    enum chain_end end = CHAIN_FAILED;
    chain_init(chain);
    if (fstat(fd, &status) != 0)
        return CHAIN_FAILED;
    if (status.st_size == 0)
        return CHAIN_EMPTY;
    if (read_window(fd, (uint64_t)status.st_size, &window))
        end = find_end((const char *)window.data, window.length,
                       window.length == (uint64_t)status.st_size, chain, torn);
    int error = errno;
    buffer_fini(&window);
    errno = error;
    return end;
}

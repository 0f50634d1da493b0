/*
 * digest: the hashes that logins are made of, over OpenSSL. Each gives false when OpenSSL fails (no
 * memory, or MD5 where the system forbids it). Any thread.
 */
#ifndef PGSTAGE_AUTH_DIGEST_H
#define PGSTAGE_AUTH_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_SHA256_BYTES 32
/* 32 hex digits and the NUL. */
#define DIGEST_MD5_TEXT_BYTES 33

bool digest_sha256(const void *data, size_t length, uint8_t digest[DIGEST_SHA256_BYTES])
    __attribute__((warn_unused_result));
/* HMAC-SHA-256 under a key of 32 bytes. */
bool digest_hmac(const uint8_t key[DIGEST_SHA256_BYTES], const void *data, size_t length,
                 uint8_t digest[DIGEST_SHA256_BYTES]) __attribute__((warn_unused_result));
/* MD5 of two pieces, as lower-case hex. */
bool digest_md5_text(const void *first, size_t first_bytes, const void *second, size_t second_bytes,
                     char text[DIGEST_MD5_TEXT_BYTES]) __attribute__((warn_unused_result));
/* Equal? Takes the same time for any two inputs of a length. */
bool digest_equal(const void *a, const void *b, size_t length);
/* Overwrites and frees a text that is a secret; NULL is nothing. */
void digest_free_secret(char *secret);

#endif

/*
 * digest: SHA-256, HMAC-SHA-256 and MD5 over OpenSSL, with their failures as results, and the two
 * habits that go with secrets: comparing in constant time and wiping before free. Any thread.
 *
 * A login makes about a dozen digests of a few bytes each, and OpenSSL 3 spends most of each on
 * looking the algorithm up by its name. So SHA-256 is looked up once; and since HMAC() looks it up
 * in any case, HMAC is put together from two digests as RFC 2104 defines it (a quarter of the time,
 * measured).
 */
#include "pgstage/auth/digest.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "pgstage/base/text.h"

/* RFC 2104 for SHA-256. */
#define HMAC_BLOCK_BYTES 64
#define HMAC_INNER 0x36
#define HMAC_OUTER 0x5c

/* Never freed: it is the process's. NULL when OpenSSL has none. */
static EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void look_up(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

static EVP_MD *the_sha256(void)
{
    pthread_once(&sha256_once, look_up);
    return sha256;
}

bool digest_sha256(const void *data, size_t length, uint8_t digest[DIGEST_SHA256_BYTES])
{
    EVP_MD *algorithm = the_sha256();

    return algorithm && EVP_Digest(data, length, digest, NULL, algorithm, NULL) == 1;
}

/* SHA-256 of the key, masked, and then the data. */
static bool digest_keyed(EVP_MD_CTX *context, const uint8_t key[DIGEST_SHA256_BYTES], uint8_t mask,
                         const void *data, size_t length, uint8_t digest[DIGEST_SHA256_BYTES])
{
    uint8_t block[HMAC_BLOCK_BYTES];
    bool made;

    memset(block, mask, sizeof(block));
    for (size_t i = 0; i < DIGEST_SHA256_BYTES; i++)
        block[i] ^= key[i];
    made = EVP_DigestInit_ex(context, the_sha256(), NULL) == 1 &&
           EVP_DigestUpdate(context, block, sizeof(block)) == 1 &&
           EVP_DigestUpdate(context, data, length) == 1 &&
           EVP_DigestFinal_ex(context, digest, NULL) == 1;
    text_wipe(block, sizeof(block));
    return made;
}

bool digest_hmac(const uint8_t key[DIGEST_SHA256_BYTES], const void *data, size_t length,
                 uint8_t digest[DIGEST_SHA256_BYTES])
{
    EVP_MD_CTX *context = the_sha256() ? EVP_MD_CTX_new() : NULL;
    uint8_t inner[DIGEST_SHA256_BYTES];
    bool made = context && digest_keyed(context, key, HMAC_INNER, data, length, inner) &&
                digest_keyed(context, key, HMAC_OUTER, inner, sizeof(inner), digest);

    EVP_MD_CTX_free(context);
    text_wipe(inner, sizeof(inner));
    return made;
}

bool digest_md5_text(const void *first, size_t first_bytes, const void *second, size_t second_bytes,
                     char text[DIGEST_MD5_TEXT_BYTES])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool made = context && EVP_DigestInit_ex(context, EVP_md5(), NULL) == 1 &&
                EVP_DigestUpdate(context, first, first_bytes) == 1 &&
                EVP_DigestUpdate(context, second, second_bytes) == 1 &&
                EVP_DigestFinal_ex(context, digest, &length) == 1 && length == 16;
    EVP_MD_CTX_free(context);
    if (!made)
        return false;
    for (unsigned i = 0; i < length; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return true;
}

bool digest_equal(const void *a, const void *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

void digest_free_secret(char *secret)
{
    if (!secret)
        return;
    text_wipe(secret, strlen(secret));
    free(secret);
}

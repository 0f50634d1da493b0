/*
 * digest: SHA-256, HMAC-SHA-256 and MD5 over OpenSSL, with their failures as results, and the two
 * habits that go with secrets: comparing in constant time and wiping before free. Owns nothing; any
 * thread.
 */
#include "pgstage/auth/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "pgstage/base/text.h"

bool digest_sha256(const void *data, size_t length, uint8_t digest[DIGEST_SHA256_BYTES])
{
    return EVP_Digest(data, length, digest, NULL, EVP_sha256(), NULL) == 1;
}

bool digest_hmac(const uint8_t key[DIGEST_SHA256_BYTES], const void *data, size_t length,
                 uint8_t digest[DIGEST_SHA256_BYTES])
{
    unsigned written = 0;
    return HMAC(EVP_sha256(), key, DIGEST_SHA256_BYTES, data, length, digest, &written) &&
           written == DIGEST_SHA256_BYTES;
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

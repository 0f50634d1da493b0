/*
 * system: what every system test includes.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cluster.h"
#include "fake.h"
#include "load.h"
#include "pki.h"
#include "process.h"
#include "program.h"
#include "proxy.h"
#include "relay.h"
#include "until.h"
#include "wire.h"

/* Every suite: what a test started is ended, also after a failure, and no test hangs. */
#define SYSTEM_SUITE(name) TestSuite(name, .fini = test_end, .timeout = TEST_LIMIT_S)

/* A test whose end is judged as well (Criterion does not count failures of a .fini): a proxy that
 * crashed, ended badly or leaked fails it. */
#define SYSTEM_TEST(suite, name)                                                                   \
    static void suite##_##name(void);                                                              \
    Test(suite, name)                                                                              \
    {                                                                                              \
        suite##_##name();                                                                          \
        test_end();                                                                                \
    }                                                                                              \
    static void suite##_##name(void)

#define cr_assert_has(text, part)                                                                  \
    cr_assert(strstr((text), (part)) != NULL, "\"%s\" is not in: %s", (part), (text))

#endif

/*
 * innocent: clients that ask what nobody else can answer and compare what they hear, beside others
 * that do what they like. Each runs in a thread of its own.
 */
#ifndef TEST_SYSTEM_INNOCENT_H
#define TEST_SYSTEM_INNOCENT_H

#include <libpq-fe.h>
#include <pthread.h>
#include <stdbool.h>

/* In every value of an innocent client, and in nothing that others ask for. */
#define INNOCENT_MARK "innocent"

/* What all threads of a test share. The mutex is the test's to initialise. */
struct trial {
    /* shared: atomic */
    _Atomic unsigned long rounds; /* of all innocent clients */
    _Atomic bool over;
    /* shared: mutex */
    pthread_mutex_t mutex;
    char *wrong; /* the first thing that was */
};

/* Something is not as it must be: the trial is over. Takes over the text. Any thread. */
void trial_wrong(struct trial *trial, char *text);
/* A number of the process's environment. */
unsigned long trial_number(const char *variable, unsigned long otherwise);

struct innocent {
    /* fixed */
    struct trial *trial;
    PGconn *conn; /* the test's, to be finished when the thread has ended */
    pthread_t thread;
    int number;
    /* owner: its thread */
    unsigned long round;
};

/* Plays until the trial is over; to be joined. */
void innocent_start(struct innocent *innocent, struct trial *trial, int number, PGconn *conn);

#endif

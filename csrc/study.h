/* Ways of training beside the plain one of hogwild.c, which says what they share. */
#ifndef FASTOPT_STUDY_H
#define FASTOPT_STUDY_H

#include "hogwild.h"

enum { FO_MICRO = 16 };   /* rows of which hogbatch makes one update */
enum { FO_SAMPLED = 64 }; /* weights of a row that are watched for other workers' writes */

/* hogwild.c, for these ways: */
ptrdiff_t fo_hogwild_first_block(const fo_hogwild *run, ptrdiff_t batch);
void fo_hogwild_set_time(const fo_hogwild *run, fo_worker *me, ptrdiff_t block);
void fo_hogwild_open(const fo_hogwild *run, ptrdiff_t batch, fo_batch *out);
void fo_hogwild_block(fo_hogwild *run, fo_worker *me, fo_batch *of, ptrdiff_t b);
void fo_hogwild_merge(fo_hogwild *run, fo_worker *me);
void fo_merge_intercepts(fo_hogwild *run, fo_worker *me, double area);
void fo_hogwild_observe(fo_hogwild *run, const fo_worker *me, ptrdiff_t block);
void fo_hogwild_train(fo_hogwild *run, fo_worker *me, ptrdiff_t low, ptrdiff_t high);

/* rounds.c: the batches [start, stop), which are whole rounds. */
void fo_rounds_slice(fo_hogwild *run, ptrdiff_t start, ptrdiff_t stop, int threads);
/* study.c: what a thread does in round-robin mode; rows under locks; rows in micro-batches; a row
   that is watched. */
void fo_round_robin(void *run, int k, int n);
void fo_train_locked(fo_hogwild *run, fo_worker *me, const ptrdiff_t *row, ptrdiff_t n);
void fo_train_micro(fo_hogwild *run, fo_worker *me, const ptrdiff_t *row, ptrdiff_t n);
void fo_train_watched(fo_hogwild *run, fo_worker *me, ptrdiff_t row);
/* 1 if row i has the elements 0, 1, ..., columns - 1, for all i. */
int fo_samples_full(const fo_samples *s);

#endif

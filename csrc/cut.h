/* Graph cuts: a weighted graph, and the state of a lock-free run over its edges. */
#ifndef FASTOPT_CUT_H
#define FASTOPT_CUT_H

#include "fastopt.h"

enum { FO_EDGES = 64, FO_NODES = 512 }; /* in a block, where they lie together */
enum { FO_LABELS = 64 };                /* the most labels */
/* The heaviest edges: sums of them, and what the steps make of them, stay finite. */
#define FO_MOST_F32 1e15
#define FO_MOST_F64 1e100

/* `width` numbers belong to a node: its share of each label, or, of two labels, of the second. */
typedef struct {
    int dtype, index_type;
    ptrdiff_t nodes, edges, width;
    const void *ends;    /* two nodes per edge */
    const void *weights; /* of dtype */
} fo_graph;

enum { FO_FLOW, FO_SUBGRADIENT };
enum { FO_STEP_DECAY, FO_STEP_CONSTANT, FO_STEP_INVERSE, FO_STEP_ROOT };

typedef struct {
    fo_graph graph;
    int method, schedule;
    double step, decay;
    uint64_t seed;
    void *z;                    /* nodes * width, written by all workers */
    void *p;                    /* nodes * width; flow: x at the last epoch; else: the average */
    void *f;                    /* flow: edges * width, each within +-weight (or half of it) */
    const void *slope;          /* subgradient: a node's costs over its edges; or NULL */
    const unsigned char *fixed; /* subgradient: 1 for seeds */
    ptrdiff_t done;             /* blocks, counted from the first epoch on */
    ptrdiff_t stop;
    char padding[128];
    _Atomic ptrdiff_t next; /* the next block to hand out */
    char more_padding[128];
} fo_cut;

ptrdiff_t fo_cut_blocks(const fo_graph *g); /* blocks in an epoch, of edges and of nodes */
/* Goes on with `blocks` more, across the ends of epochs. */
void fo_cut_slice(fo_cut *run, ptrdiff_t blocks, int threads);
/* The shares x of all nodes in labels, as they are now. */
void fo_cut_shares(const fo_cut *run, void *x);
/* out (nodes * width, zero before) += what flows out of each node. */
void fo_cut_outflow(const fo_cut *run, double *out);
/* Projects each of n rows of `width` numbers onto the simplex, or a single number onto [0, 1]. */
void fo_project(int dtype, ptrdiff_t n, ptrdiff_t width, void *x);

/* What is wrong with the graph: 0, or one of these, at edge *where. */
enum { FO_BAD_NODE = 1, FO_BAD_LOOP, FO_BAD_WEIGHT };
int fo_graph_check(const fo_graph *g, ptrdiff_t *where);
/* The sum of weight * |x_u - x_v|_1, halved where there is a number per label. */
double fo_graph_variation(const fo_graph *g, const void *x);
double fo_graph_cut(const fo_graph *g, const int32_t *labels);
/* of[u] += weight of the edges at u. */
void fo_graph_degrees(const fo_graph *g, double *of);
/* change[t] = what the cut between {code <= t} and {code > t} weighs more than the one before;
   zero before. */
void fo_graph_sweep(const fo_graph *g, const int32_t *codes, double *change);

#endif

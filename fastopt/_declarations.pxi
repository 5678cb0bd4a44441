# What the C side has for dense steps.

cdef extern from "fastopt.h" nogil:
    enum:
        FO_MAX_STATES
        FO_MAX_SCALARS
        FO_QUANTUM
        FO_NOISE
        FO_F32
        FO_F64
        FO_BF16
        FO_F16
        FO_S8
        FO_U8
        FO_SUM
        FO_DOT
        FO_SUMSQ
        FO_ABSMAX
    ctypedef struct fo_prelude:
        double fold
        double scale
        double l2
        double decay
    fo_prelude fo_make_prelude(double scale, double l2, double decay)
    ctypedef int fo_flag
    bint fo_claim(fo_flag *flag)
    ctypedef struct fo_array:
        int type
        char *data
        int ndim
        const Py_ssize_t *shape
        const Py_ssize_t *strides
        int contiguous, reversed
    ctypedef struct fo_state:
        int type
        char *data
        float *largest
    ctypedef struct fo_group:
        fo_prelude prelude
        double scalars[16]
        double clip_value, l1, soft, divided, least, most, max_norm, average
        int mask, zero_grad, pull
    ctypedef struct fo_skipped:
        double *factor
        double *soft
        double step_factor, step_soft
    ctypedef struct fo_factored:
        Py_ssize_t matrices, rows, columns
        double *row
        double *column
        void *full
        void *row_factor
        void *column_factor
        double weight, added, least, factor
    ctypedef struct fo_segment:
        int dtype, frozen, stochastic
        uint32_t number
        Py_ssize_t n, row
        int reversed
        fo_array w, g, copy
        void *rest
        void *average
        double *row_scale
        fo_state states[4]
        fo_factored *factored
        const fo_group *group
        double gain, l2_gain, lr_gain
        const int64_t *rows
        fo_skipped skipped
    Py_ssize_t fo_step(const fo_segment *segments, const Py_ssize_t *ends, Py_ssize_t count,
                       int rule, uint32_t key, int partial, int threads)
    Py_ssize_t fo_partials(const fo_segment *segments, Py_ssize_t count)
    enum:
        FO_OF_G
        FO_OF_W
        FO_OF_RULE
    double fo_reduce_all(const fo_segment *segments, Py_ssize_t count, int of, int rule, int what,
                         double scale, double *partials, int threads)
    enum:
        FO_BLOCK
    void fo_gather(const fo_array *a, const fo_kernels *kernels, Py_ssize_t start, Py_ssize_t n,
                   void *out)
    void fo_fill_zero(const fo_array *a, Py_ssize_t start, Py_ssize_t n)
    void fo_clip_rows(const fo_segment *s, double most, int threads)
    void fo_project_rows(const fo_segment *s, double most, int threads)
    void fo_catch_up(const fo_segment *s, int threads)

cdef extern from "math.h" nogil:
    double INFINITY
    double NAN
    bint isfinite(double)
    double sqrt(double)
    double frexp(double, int *)
    double ldexp(double, int)
    double exp(double)
    double expm1(double)
    double log1p(double)
    double log(double)

cdef extern from "float.h":
    double FLT_MIN
    double FLT_MAX

/* exp, log and log1p as plain arithmetic: they vectorize, and have the same bits on every
   instruction set, which the C library's have not. They are within 2 units in the last place; what
   would be subnormal is 0. Included by kernels.c, after bits_of and float_of. */
#ifndef FO_ELEMENTARY_H
#define FO_ELEMENTARY_H

INLINE uint64_t bits_of_double(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
INLINE double double_of(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* exp(x) = 2^n exp(r), |r| <= log(2) / 2. n is rounded by adding a number whose last bit is worth
   1; log(2) is in two parts, so that n times the first is exact. exp(r) = 1 + r + r^2 q(r), where q
   is the polynomial through Chebyshev's points. */
INLINE float exp_f32(float x) {
    const float shifted = x * 0x1.715476p+0f + 0x1.8p23f, n = shifted - 0x1.8p23f;
    const float r = (x - n * 0x1.63p-1f) + n * 2.12194440e-4f;
    float q = 0x1.6d11fep-10f;
    q = q * r + 0x1.120c62p-7f;
    q = q * r + 0x1.555518p-5f;
    q = q * r + 0x1.5554dcp-3f;
    q = q * r + 0x1p-1f;
    const float e = 1 + (r + r * r * q);
    const float power = float_of(bits_of(e) + (bits_of(shifted) << 23));
    return x < -87.33654f ? 0 : x > 88.72283f ? INFINITY : x == x ? power : x;
}

INLINE double exp_f64(double x) {
    const double shifted = x * 0x1.71547652b82fep+0 + 0x1.8p52, n = shifted - 0x1.8p52;
    const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double q = 0x1.af39789bfd689p-26;
    q = q * r + 0x1.28922d8c8d4fbp-22;
    q = q * r + 0x1.71de0d573888bp-19;
    q = q * r + 0x1.a019b87f7a6e9p-16;
    q = q * r + 0x1.a01a01a7da98dp-13;
    q = q * r + 0x1.6c16c178b0646p-10;
    q = q * r + 0x1.1111111110996p-7;
    q = q * r + 0x1.5555555553d05p-5;
    q = q * r + 0x1.5555555555556p-3;
    q = q * r + 0x1p-1;
    const double e = 1 + (r + r * r * q);
    const double power = double_of(bits_of_double(e) + (bits_of_double(shifted) << 52));
    return x < -708.3964 ? 0 : x > 709.782712893384 ? (double)INFINITY : x == x ? power : x;
}

/* log(x) of a normal positive x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), with s = f / (2 + f)
   and fdlibm's polynomials in s^2; infinity and NaN stay. `rest` is added where it loses least. */
INLINE float log_and_f32(float x, float rest) {
    const uint32_t up = bits_of(x) + (0x3f800000u - 0x3f3504f3u);
    const float k = float_of((up >> 23) | 0x4b000000u) - (8388608.0f + 127);
    const float f = float_of((up & 0x7fffffu) + 0x3f3504f3u) - 1;
    const float s = f / (2 + f), z = s * s, half = f * f / 2;
    const float p =
        z * (0.66666662693f + z * (0.40000972152f + z * (0.28498786688f + z * 0.24279078841f)));
    const float low = s * (half + p) + (k * 9.0580006145e-06f + rest);
    const float log = ((low - half) + f) + k * 6.9313812256e-01f;
    return x < INFINITY ? log : x;
}

INLINE double log_and_f64(double x, double rest) {
    const uint64_t up = bits_of_double(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    const double k = double_of((up >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023);
    const double f = double_of((up & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1;
    const double s = f / (2 + f), z = s * s, half = f * f / 2;
    double p = 1.479819860511658591e-01;
    p = p * z + 1.531383769920937332e-01;
    p = p * z + 1.818357216161805012e-01;
    p = p * z + 2.222219843214978396e-01;
    p = p * z + 2.857142874366239149e-01;
    p = p * z + 3.999999999940941908e-01;
    p = p * z + 6.666666666666735130e-01;
    const double low = s * (half + z * p) + (k * 1.90821492927058770002e-10 + rest);
    const double log = ((low - half) + f) + k * 6.93147180369123816490e-01;
    return x < (double)INFINITY ? log : x;
}

/* log(1 + u), u >= 0: what 1 + u has lost of u is made up for. */
INLINE float log1p_f32(float u) {
    const float x = 1 + u;
    return log_and_f32(x, (u - (x - 1)) / x);
}
INLINE double log1p_f64(double u) {
    const double x = 1 + u;
    return log_and_f64(x, (u - (x - 1)) / x);
}

/* x = log(x), x >= 1. */
static void logs_f64(ptrdiff_t n, double *x) {
    SIMD
    for (ptrdiff_t i = 0; i < n; i++) x[i] = log_and_f64(x[i], 0);
}

#endif

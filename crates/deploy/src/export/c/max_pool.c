static void max_pool(const pool_t *p) {
    const uint8_t *in = (const uint8_t *)arena + p->input;
    uint8_t *out = (uint8_t *)arena + p->output;
    int oy, ox, ky, kx, c, n = p->channels;
    for (oy = 0; oy < p->out_h; oy++)
        for (ox = 0; ox < p->out_w; ox++, out += n)
            for (ky = 0; ky < p->kernel_h; ky++)
                for (kx = 0; kx < p->kernel_w; kx++) {
                    const uint8_t *x = in + ((uint32_t)(oy * p->stride_h + ky) * p->in_w + (uint32_t)(ox * p->stride_w + kx)) * (uint32_t)n;
                    if (ky + kx == 0) memcpy(out, x, (size_t)n);
                    else for (c = 0; c < n; c++) if (x[c] > out[c]) out[c] = x[c];
                }
}


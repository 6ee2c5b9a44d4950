# package.py - Spack recipe of libbsdattn: packages/libbsdattn/package.py of a Spack repository.
#
# From a checkout: spack dev-build libbsdattn@main +mpi +cuda cuda_arch=90
# tests/check-manuals compares its options with configure's; Spack itself is not part of the tests.

from spack.package import *


class Libbsdattn(AutotoolsPackage, CudaPackage):
    """Exact block-sparse dilated attention, forward and backward, for sequences that are too long for one
    device: a library and two programs, from one rank on a CPU to many GPUs over MPI or NCCL."""

    license("BSD-3-Clause")

    version("main")

    variant("mpi", default=True, description="ranks over MPI")
    variant("nccl", default=False, description="ranks over NCCL")
    variant("blas", default=True, description="the dense baseline of bsd_bench on the CPU")
    variant("openmp", default=True, description="threads on the CPU")
    variant("report", default=False, description="gnuplot, for the figures of bsd_bench --plot")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("autoconf", type="build")
    depends_on("automake", type="build")
    depends_on("libtool", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("jansson")
    depends_on("xxhash")
    depends_on("check", type="test")
    depends_on("mpi", when="+mpi")
    depends_on("nccl@2.18:", when="+nccl")
    depends_on("openblas", when="+blas")
    depends_on("gnuplot", type="run", when="+report")

    conflicts("+nccl", when="~cuda", msg="NCCL moves device memory: +nccl needs +cuda")
    conflicts("cuda_arch=none", when="+cuda", msg="say for which GPUs: cuda_arch=80,90")

    def autoreconf(self, spec, prefix):
        autoreconf("--install", "--force")

    def cuda_architectures(self):
        # Tensor core kernels for Hopper need the architecture's own features: 90a.
        return ",".join("90a" if arch == "90" else arch for arch in self.spec.variants["cuda_arch"].value)

    def configure_args(self):
        spec = self.spec
        args = []
        args.append("--with-mpi=" + spec["mpi"].prefix if "+mpi" in spec else "--without-mpi")
        args.append("--with-nccl=" + spec["nccl"].prefix if "+nccl" in spec else "--without-nccl")
        args.append("--with-cblas=" + spec["openblas"].libs.ld_flags if "+blas" in spec else "--without-cblas")
        if "+cuda" in spec:
            args.append("--with-cuda=" + spec["cuda"].prefix)
            args.append("--with-cuda-arch=" + self.cuda_architectures())
        else:
            args.append("--without-cuda")
        if "~openmp" in spec:
            args.append("--disable-openmp")
        return args

set terminal svg noenhanced dynamic size 450,508 name 'time_forward' font 'sans-serif,15'
set output 'time_forward.svg'
set border 3 lw 0.75
set tics nomirror scale 0.4
set errorbars small
set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'
set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'
set tmargin 1.8
set rmargin 2.5
set xtics offset 0,0.4
set logscale x
set xrange [1861.81818:144179.2]
set xtics ('2K' 2048, '4K' 4096, '8K' 8192, '16K' 16384, '32K' 32768, '64K' 65536, '128K' 131072)
set logscale y
set yrange [0.000712320004:179.805222]
set ytics ('0.001' 0.001, '0.01' 0.01, '0.1' 0.1, '1' 1, '10' 10, '100' 100)
set xlabel 'tokens in a sequence' offset 0,0.9
set label 'ms for one sequence' at graph 0, graph 1.07 left
set arrow from 65536, graph 0 to 65536, graph 1 nohead lw 1 dt 3
set label 'dense f32: out of memory (128.5 GiB)' at 65536, graph 0.05 right offset -0.7,0 font ',13'
plot 'time_forward.dat' index 0 using 1:2 with linespoints lc rgb 'black' lw 1.5 dt (8,4) pt 4 ps 0.8 title 'dense attention, bf16', \
  'time_forward.dat' index 1 with yerrorlines lc rgb '#0072b2' lw 2 pt 7 ps 0.8 title 'density 0.02, not causal, 8/8 heads, D 64, bf16…', \
  'time_forward.dat' index 2 with yerrorlines lc rgb '#d55e00' lw 2 pt 5 ps 0.8 title 'density 0.1, not causal, 8/8 heads, D 64, bf16,…', \
  'time_forward.dat' index 3 with yerrorlines lc rgb '#009e73' lw 2 pt 9 ps 0.8 title 'density 0.05, not causal, 8/8 heads, D 64, bf16…', \
  'time_forward.dat' index 4 with yerrorlines lc rgb '#b0568f' lw 2 pt 13 ps 0.8 title 'LongNet, not causal, 8/8 heads, D 64, bf16, blo…', \
  'time_forward.dat' index 5 with yerrorlines lc rgb '#a87400' lw 2 pt 11 ps 0.8 title 'density 0.1, not causal, 8/8 heads, D 64, f32, …', \
  'time_forward.dat' index 6 with yerrorlines lc rgb '#3a93c2' lw 2 pt 15 ps 0.8 title 'density 0.05, not causal, 8/8 heads, D 64, f32,…', \
  'time_forward.dat' index 7 using 1:2 with linespoints lc rgb 'black' lw 1.5 dt (8,4) pt 4 ps 0.8 title 'dense attention, f32', \
  'time_forward.dat' index 8 with yerrorlines lc rgb '#0072b2' lw 2 pt 7 ps 0.8 title 'density 0.02, not causal, 8/8 heads, D 64, f32,…'

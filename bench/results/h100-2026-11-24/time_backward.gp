set terminal svg noenhanced dynamic size 450,398 name 'time_backward' font 'sans-serif,15'
set output 'time_backward.svg'
set border 3 lw 0.75
set tics nomirror scale 0.4
set errorbars small
set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'
set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'
set tmargin 1.8
set rmargin 2.5
set xtics offset 0,0.4
set logscale x
set xrange [7447.27273:144179.2]
set xtics ('8K' 8192, '32K' 32768, '128K' 131072, '16K' 16384, '64K' 65536)
set logscale y
set yrange [0.0353830401:30.2210065]
set ytics ('0.1' 0.1, '1' 1, '10' 10)
set xlabel 'tokens in a sequence' offset 0,0.9
set label 'ms for one sequence' at graph 0, graph 1.07 left
plot 'time_backward.dat' index 0 with yerrorlines lc rgb '#0072b2' lw 2 pt 7 ps 0.8 title 'density 0.02, not causal, 8/8 heads, D 64, bf16…', \
  'time_backward.dat' index 1 with yerrorlines lc rgb '#d55e00' lw 2 pt 5 ps 0.8 title 'density 0.1, not causal, 8/8 heads, D 64, bf16,…', \
  'time_backward.dat' index 2 with yerrorlines lc rgb '#009e73' lw 2 pt 9 ps 0.8 title 'density 0.05, not causal, 8/8 heads, D 64, bf16…', \
  'time_backward.dat' index 3 with yerrorlines lc rgb '#b0568f' lw 2 pt 13 ps 0.8 title 'LongNet, not causal, 8/8 heads, D 64, bf16, blo…'

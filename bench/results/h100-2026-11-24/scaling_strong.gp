set terminal svg noenhanced dynamic size 450,420 name 'scaling_strong' font 'sans-serif,15'
set output 'scaling_strong.svg'
set border 3 lw 0.75
set tics nomirror scale 0.4
set errorbars small
set grid ytics lt 1 lw 0.5 lc rgb '#d9dce0'
set key below left Left reverse maxcols 1 samplen 2.5 height 0.6 font ',13'
set tmargin 1.8
set rmargin 2.5
set xtics offset 0,0.4
set logscale x
set xrange [0.909090909:70.4]
set xtics ('1' 1, '2' 2, '4' 4, '8' 8, '16' 16, '32' 32, '64' 64)
set yrange [0:110]
set xlabel 'ranks' offset 0,0.9
set label '% of ideal' at graph 0, graph 1.07 left
plot 'scaling_strong.dat' index 0 using 1:2 with linespoints lc rgb '#0072b2' lw 1.5 dt (6,4) pt 6 ps 0.9 title 'forward (predicted): LongNet', \
  'scaling_strong.dat' index 1 using 1:2 with linespoints lc rgb '#d55e00' lw 1.5 dt (6,4) pt 4 ps 0.9 title 'backward (predicted): LongNet', \
  'scaling_strong.dat' index 2 using 1:2 with linespoints lc rgb '#009e73' lw 1.5 dt (6,4) pt 8 ps 0.9 title 'forward (predicted): strided(1:2,rows=26)', \
  'scaling_strong.dat' index 3 using 1:2 with linespoints lc rgb '#b0568f' lw 1.5 dt (6,4) pt 12 ps 0.9 title 'backward (predicted): strided(1:2,rows=26)', \
  'scaling_strong.dat' index 4 using 1:2 with lines lc rgb 'black' lw 1.5 dt 3 title 'ideal'

set terminal svg noenhanced dynamic size 420,420 name 'pattern_4' font 'sans-serif,15'
set output 'pattern_4.svg'
set border 0
set tics scale 0 nomirror
set size ratio -1
set xrange [-8.96:128]
set yrange [128:0]
set xtics ('0' 0, '4K' 64, '8K' 128)
set ytics ('0' 0, '4K' 64, '8K' 128)
set xlabel 'keys' offset 0,0.7
set ylabel 'queries' offset 0.8,0
set key below left Left reverse maxcols 4 samplen 1 width 1 height 0.6
set style fill solid 1 noborder
set lmargin 8
set rmargin 1.5
set tmargin 0.7
plot 'pattern_4.dat' index 0 using 1:2:3:4:5:6 with boxxyerror lc rgb '#000072b2' notitle
